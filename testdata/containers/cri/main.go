// Cri runs a pod by the interface of Kubernetes, as the kubelet does: a sandbox with the
// handler of a RuntimeClass, a container in it, exec (probes, kubectl exec) and logs.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const attack = `dd if=/proc/1/mem bs=4096 skip=1024 count=1 2>/dev/null | head -c 4 | tail -c 3`

func main() {
	socket := flag.String("socket", "", "containerd's socket")
	image := flag.String("image", "", "the image of the container")
	handler := flag.String("handler", "", "the runtime's name in containerd's configuration")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	if err := run(ctx, *socket, *image, *handler); err != nil {
		fmt.Fprintln(os.Stderr, "cri:", err)
		os.Exit(1)
	}
}

// pod is a sandbox with one container.
type pod struct {
	client cri.RuntimeServiceClient
	id     string
	config *cri.PodSandboxConfig
}

func run(ctx context.Context, socket, image, handler string) error {
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	p := &pod{client: cri.NewRuntimeServiceClient(conn)}
	logs, err := os.MkdirTemp("", "cri-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(logs)
	host := &cri.LinuxSandboxSecurityContext{NamespaceOptions: &cri.NamespaceOption{Network: cri.NamespaceMode_NODE}}
	p.config = &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: "pod", Uid: "1", Namespace: "default"},
		LogDirectory: logs,
		Linux:        &cri.LinuxPodSandboxConfig{SecurityContext: host},
	}
	sandbox, err := p.client.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: p.config, RuntimeHandler: handler})
	if err != nil {
		return fmt.Errorf("the sandbox: %w", err)
	}
	p.id = sandbox.PodSandboxId
	defer p.client.RemovePodSandbox(context.WithoutCancel(ctx), &cri.RemovePodSandboxRequest{PodSandboxId: p.id})
	status, err := p.client.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: p.id})
	if err != nil {
		return err
	}
	fmt.Println("pod: handler", status.Status.RuntimeHandler)
	script := `echo "log: $(` + attack + `)"; trap "exit 7" TERM; while :; do sleep 0.1; done`
	id, err := p.start(ctx, image, "app", nil, "sh", "-c", script)
	if err != nil {
		return err
	}
	for _, command := range []string{attack, "id -u; exit 3"} {
		answer, err := p.client.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: id, Cmd: []string{"sh", "-c", command},
			Timeout: 10})
		if err != nil {
			return fmt.Errorf("exec: %w", err)
		}
		fmt.Printf("probe: %s status %d\n", strings.TrimSpace(string(answer.Stdout)), answer.ExitCode)
	}
	if _, err := p.client.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: id, Timeout: 10}); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	ended, err := p.client.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: id})
	if err != nil {
		return err
	}
	fmt.Println("stop: status", ended.Status.ExitCode)
	text, err := os.ReadFile(filepath.Join(logs, "app.log"))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) { // TIME stdout F TEXT
		if fields := strings.SplitN(strings.TrimRight(line, "\n"), " ", 4); len(fields) == 4 {
			fmt.Println(fields[3])
		}
	}
	_, err = p.start(ctx, image, "other", map[string]string{"io.memjail.policy": "strict"}, "sleep", "1")
	fmt.Println("annotation, not allowed: started", err == nil)
	return nil
}

// start creates and starts a container.
func (p *pod) start(ctx context.Context, image, name string, annotations map[string]string, command ...string) (
	string, error) {
	made, err := p.client.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: p.id, SandboxConfig: p.config,
		Config: &cri.ContainerConfig{
			Metadata: &cri.ContainerMetadata{Name: name}, Image: &cri.ImageSpec{Image: image}, Command: command,
			Annotations: annotations, LogPath: name + ".log",
			Linux: &cri.LinuxContainerConfig{SecurityContext: &cri.LinuxContainerSecurityContext{
				NamespaceOptions: &cri.NamespaceOption{Network: cri.NamespaceMode_NODE}}},
		}})
	if err != nil {
		return "", fmt.Errorf("creating the container %s: %w", name, err)
	}
	if _, err := p.client.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: made.ContainerId}); err != nil {
		return "", fmt.Errorf("starting the container %s: %w", name, err)
	}
	return made.ContainerId, nil
}
