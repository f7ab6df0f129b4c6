package file_test

import (
	"errors"
	"fmt"

	"github.com/memjail/memjail/policy/file"
)

// The flags of the command line, in Go. All mistakes come at once.
func ExampleOverrides() {
	p, err := file.Overrides{
		ROX: []string{"/usr", "/lib", "?/lib64"}, RW: []string{"/srv/data"}, ConnectTCP: []string{"443"},
		Allow: []string{"ptrace=children"},
	}.Apply(file.Default())
	fmt.Println(p.Paths.Rules.Len(), p.Network.ConnectTCP, p.Memory.Ptrace, err)

	_, err = file.Overrides{RO: []string{"~/x"}, Allow: []string{"ptrace=maybe"}}.Apply(file.Default())
	fmt.Println(err)
	// Output:
	// 4 only [443] children <nil>
	// --allow ptrace=maybe: want deny, children or allow
	// --ro ~/x: ~ is not expanded in flags: write the whole path
}

// A policy file, and where its mistakes are.
func ExampleParse() {
	const text = `version = 1
extends = ["memory"]

[paths]
rox = ["/usr", "?/opt/tool"]
rw  = ["data"]
`
	_, err := file.Parse("my.toml", []byte(text), file.Default())
	var all file.Errors
	if errors.As(err, &all) {
		for _, e := range all {
			fmt.Println(e.Position.Line, e.Key, e.Reason)
		}
	}
	// Output:
	// 6 paths.rw the path is relative: write one that begins with /, ~/ or ${PWD}/
}

// What a policy means, as one file that extends no other.
func ExampleRender() {
	p, err := file.Overrides{RO: []string{"/etc", "?/srv"}}.Apply(file.Default())
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, s := range file.Settings(p) {
		if s.Key == "paths.ro" {
			fmt.Println(s.Key, s.Value, s.Elements[1])
		}
	}
	back, err := file.Parse("rendered.toml", file.Render(p), file.Default())
	fmt.Println(back.Paths.Rules.Len(), err)
	// Output:
	// paths.ro [/etc ?/srv] flag --ro ?/srv
	// 2 <nil>
}
