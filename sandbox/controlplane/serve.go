package main

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/embed"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
)

const (
	etcdStartTimeout = 60 * time.Second
	startDuration    = 10 * time.Second
)

type serveOptions struct {
	dataDir           string
	port              int
	certFile          string
	keyFile           string
	tokenFile         string
	serviceAccountKey string
	stopOnEOF         bool
}

func serveCommand() *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run etcd and kube-apiserver on 127.0.0.1 until SIGTERM",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return serve(o) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.dataDir, "data-dir", "", "directory of etcd's data")
	flags.IntVar(&o.port, "port", 0, "port of kube-apiserver")
	flags.StringVar(&o.certFile, "tls-cert-file", "", "certificate of kube-apiserver")
	flags.StringVar(&o.keyFile, "tls-private-key-file", "", "its private key")
	flags.StringVar(&o.tokenFile, "token-auth-file", "", "static tokens: token,user,uid,\"groups\"")
	flags.StringVar(&o.serviceAccountKey, "service-account-key-file", "", "private key that signs ServiceAccount tokens")
	addStopOnEOF(flags, &o.stopOnEOF)
	for _, name := range []string{
		"data-dir", "port", "tls-cert-file", "tls-private-key-file", "token-auth-file", "service-account-key-file",
	} {
		_ = cmd.MarkFlagRequired(name)
	}
	return cmd
}

func serve(o serveOptions) error {
	// A start allocates much and keeps most of it: collecting garbage meanwhile costs a tenth of the time.
	debug.SetGCPercent(400)
	time.AfterFunc(startDuration, func() { debug.SetGCPercent(100) })

	etcd, err := startEtcd(o.dataDir)
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	defer etcd.Close()
	if o.stopOnEOF {
		stopOnEOF()
	}

	cmd := apiserver.NewAPIServerCommand()
	cmd.SetArgs([]string{
		"--etcd-servers=http://" + etcd.Clients[0].Addr().String(),
		"--bind-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", o.port),
		"--tls-cert-file=" + o.certFile,
		"--tls-private-key-file=" + o.keyFile,
		"--token-auth-file=" + o.tokenFile,
		"--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + o.serviceAccountKey,
		"--service-account-signing-key-file=" + o.serviceAccountKey,
		"--service-cluster-ip-range=10.0.0.0/24",
		// There is no network to announce an endpoint on, and nobody to drain connections for.
		"--endpoint-reconciler-type=none",
		"--shutdown-delay-duration=0s",
	})
	return cmd.Execute()
}

// startEtcd runs an etcd of one member on ports that the system chooses.
func startEtcd(dataDir string) (*embed.Etcd, error) {
	anyPort := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	cfg := embed.NewConfig()
	cfg.Name = "sandbox"
	cfg.Dir = filepath.Clean(dataDir)
	cfg.LogLevel = "error"
	// The data is disposable: nothing is lost that "up" does not make again.
	cfg.UnsafeNoFsync = true
	// The only member elects itself, and waits for nobody.
	cfg.TickMs, cfg.ElectionMs = 10, 100
	cfg.EnableGRPCGateway = false
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{anyPort}, []url.URL{anyPort}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{anyPort}, []url.URL{anyPort}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)

	etcd, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), etcdStartTimeout)
	defer cancel()
	select {
	case <-etcd.Server.ReadyNotify():
		return etcd, nil
	case err := <-etcd.Err():
		return nil, err
	case <-ctx.Done():
		etcd.Close()
		return nil, fmt.Errorf("not ready after %s", etcdStartTimeout)
	}
}
