// Controlplane runs a Kubernetes control plane without containers or nodes:
//
//	controlplane serve        etcd and kube-apiserver
//	controlplane controllers  the controllers that finish what the API server accepts
//
// Both are the published code of their projects; this program only puts them together. They run as two
// processes, because each of the Kubernetes commands configures the logging of its whole process.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

func main() {
	root := &cobra.Command{
		Use:           "controlplane",
		Short:         "A Kubernetes control plane without containers or nodes",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(serveCommand(), controllersCommand())
	if err := root.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "controlplane:", err)
		os.Exit(1)
	}
}
