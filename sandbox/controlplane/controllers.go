package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

// Without these a namespace is never deleted, owned objects stay behind, and no namespace gets its default
// ServiceAccount and the CA bundle that pods mount. No other controller has anything to do without nodes.
const enabledControllers = "namespace-controller," +
	"garbage-collector-controller," +
	"serviceaccount-controller," +
	"serviceaccount-token-controller," +
	"root-ca-certificate-publisher-controller"

const (
	serverStartTimeout = 90 * time.Second
	serverPollInterval = 50 * time.Millisecond
)

type controllersOptions struct {
	kubeconfig        string
	rootCAFile        string
	serviceAccountKey string
	stopOnEOF         bool
}

func controllersCommand() *cobra.Command {
	var o controllersOptions
	cmd := &cobra.Command{
		Use:   "controllers",
		Short: "Run the namespace, garbage collector and ServiceAccount controllers until SIGTERM",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return runControllers(o) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "how to reach kube-apiserver, as an administrator")
	flags.StringVar(&o.rootCAFile, "root-ca-file", "", "CA that is published to every namespace")
	flags.StringVar(&o.serviceAccountKey, "service-account-key-file", "", "private key that signs ServiceAccount tokens")
	addStopOnEOF(flags, &o.stopOnEOF)
	for _, name := range []string{"kubeconfig", "root-ca-file", "service-account-key-file"} {
		_ = cmd.MarkFlagRequired(name)
	}
	return cmd
}

func runControllers(o controllersOptions) error {
	if o.stopOnEOF {
		stopOnEOF()
	}
	if err := waitForServer(o.kubeconfig); err != nil {
		return err
	}
	cmd := controllers.NewControllerManagerCommand()
	cmd.SetArgs([]string{
		"--controllers=" + enabledControllers,
		"--kubeconfig=" + o.kubeconfig,
		"--root-ca-file=" + o.rootCAFile,
		"--service-account-private-key-file=" + o.serviceAccountKey,
		"--use-service-account-credentials=false",
		"--leader-elect=false",
		"--secure-port=0",
	})
	return cmd.Execute()
}

// waitForServer returns once kube-apiserver is healthy. The command itself looks once a second, and gives up after
// ten: too coarse for a start of three seconds, too soon on a busy machine.
func waitForServer(kubeconfig string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(serverStartTimeout)
	for {
		err := client.Discovery().RESTClient().Get().AbsPath("/healthz").Do(context.Background()).Error()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("kube-apiserver is not healthy after %s: %w", serverStartTimeout, err)
		}
		time.Sleep(serverPollInterval)
	}
}
