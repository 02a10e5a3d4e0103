package main

import (
	"io"
	"os"
	"syscall"

	"github.com/spf13/pflag"
)

func addStopOnEOF(flags *pflag.FlagSet, value *bool) {
	flags.BoolVar(value, "stop-on-eof", false, "stop when standard input ends, as it does when the starting process dies")
}

// stopOnEOF ends this process as SIGTERM does, once nobody holds the other end of standard input any more.
func stopOnEOF() {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = syscall.Kill(os.Getpid(), syscall.SIGTERM)
	}()
}
