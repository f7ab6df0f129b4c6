package main

import (
	"bytes"
	"compress/gzip"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/memjail/memjail/cmd/memjail/cli"
	"github.com/memjail/memjail/profiles"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// stage writes the files that a package installs, below a directory.
func (b *builder) stage(tree, arch string) error {
	put := func(name string, data []byte, mode os.FileMode) error {
		file := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, data, mode); err != nil {
			return err
		}
		return os.Chmod(file, mode)
	}
	for _, step := range []func(put putFunc) error{b.manuals, b.completions, b.documents, b.policies} {
		if err := step(put); err != nil {
			return err
		}
	}
	if err := b.compile(filepath.Join(tree, "usr/bin/memjail"), arch); err != nil {
		return err
	}
	return os.Symlink("memjail", filepath.Join(tree, "usr/bin/memjail-oci"))
}

// putFunc writes a file of the tree.
type putFunc func(name string, data []byte, mode os.FileMode) error

// compile builds the program as the Makefile does.
func (b *builder) compile(out, arch string) error {
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags=-E memjail_entry -buildid= -X github.com/memjail/memjail/cmd/memjail/cli.Version="+b.version,
		"-o", out, "./cmd/memjail")
	build.Dir = b.top
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOFLAGS=")
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building: %w\n%s", err, text)
	}
	return nil
}

// root is the command line that the program has.
func root() *cobra.Command {
	c := cli.Root()
	c.DisableAutoGenTag = true
	return c
}

// manuals writes the manual page of the program, which is written by hand, and one for each
// command.
func (b *builder) manuals(put putFunc) error {
	page, err := os.ReadFile(filepath.Join(b.top, "docs", "memjail.1"))
	if err != nil {
		return err
	}
	if err := put("usr/share/man/man1/memjail.1.gz", squeeze(page), 0o644); err != nil {
		return err
	}
	return eachCommand(root(), func(c *cobra.Command) error {
		if c.Parent() == nil {
			return nil
		}
		text, err := b.manual(c)
		if err != nil {
			return err
		}
		name := strings.ReplaceAll(c.CommandPath(), " ", "-")
		return put("usr/share/man/man1/"+name+".1.gz", squeeze(text), 0o644)
	})
}

// manual returns the manual page of a command.
func (b *builder) manual(c *cobra.Command) ([]byte, error) {
	var text bytes.Buffer
	c.Long = markdown(c.Long)
	err := doc.GenMan(c, &doc.GenManHeader{Section: "1", Date: &b.time, Source: "memjail " + b.version,
		Manual: "User Commands"}, &text)
	return text.Bytes(), err
}

// markdown turns the text of a help into Markdown, which the pages are made of: what is
// indented stays as it is, and no character is markup.
func markdown(text string) string {
	var b strings.Builder
	escape := strings.NewReplacer("*", `\*`, "_", `\_`, "<", `\<`)
	block := false
	for line := range strings.Lines(text) {
		if indented := strings.HasPrefix(line, "  "); indented && !block {
			b.WriteString("\n    " + line)
			block = true
		} else if indented {
			b.WriteString("    " + line)
		} else {
			b.WriteString(escape.Replace(line))
			block = false
		}
	}
	return b.String()
}

// eachCommand calls f for a command and all below it that are shown.
func eachCommand(c *cobra.Command, f func(c *cobra.Command) error) error {
	if err := f(c); err != nil {
		return err
	}
	for _, sub := range c.Commands() {
		if sub.Hidden || sub.Name() == "help" || sub.Name() == "completion" {
			continue
		}
		if err := eachCommand(sub, f); err != nil {
			return err
		}
	}
	return nil
}

// squeeze compresses without a name or time.
func squeeze(data []byte) []byte {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		panic(err) // the level is right
	}
	if _, err := w.Write(data); err != nil {
		panic(err) // a buffer takes all
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func (b *builder) completions(put putFunc) error {
	for name, write := range map[string]func(c *cobra.Command, w io.Writer) error{
		"usr/share/bash-completion/completions/memjail": func(c *cobra.Command, w io.Writer) error {
			return c.GenBashCompletionV2(w, true)
		},
		"usr/share/zsh/site-functions/_memjail": func(c *cobra.Command, w io.Writer) error { return c.GenZshCompletion(w) },
		"usr/share/fish/vendor_completions.d/memjail.fish": func(c *cobra.Command, w io.Writer) error {
			return c.GenFishCompletion(w, true)
		},
	} {
		var text bytes.Buffer
		if err := write(root(), &text); err != nil {
			return err
		}
		if err := put(name, text.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// documents are the license, the changes, examples, and the unit of the capability.
func (b *builder) documents(put putFunc) error {
	const docs = "usr/share/doc/memjail/"
	for from, to := range map[string]string{
		"LICENSE": docs + "copyright", "README.md": docs + "README.md", "CHANGELOG.md": docs + "changelog.gz",
		"docs/policy.md": docs + "policy.md", "docs/policy-schema.json": "usr/share/memjail/policy-schema.json",
		"testdata/capability/10-memory.conf":               docs + "examples/10-memory.conf",
		"testdata/containers/oci.toml":                     docs + "examples/oci.toml",
		"testdata/containers/daemon.json":                  docs + "examples/daemon.json",
		"testdata/capability/memjail-capability.service":   "usr/lib/systemd/system/memjail-capability.service",
		"testdata/containers/kubernetes/runtimeclass.yaml": docs + "examples/runtimeclass.yaml",
	} {
		data, err := os.ReadFile(filepath.Join(b.top, from))
		if err != nil {
			return err
		}
		data = bytes.ReplaceAll(data, []byte("/usr/local/bin/memjail"), []byte("/usr/bin/memjail"))
		if strings.HasSuffix(to, ".gz") {
			data = squeeze(data)
		}
		if err := put(to, data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// policies are the texts of the built-in policies, to be copied; the program has its own.
func (b *builder) policies(put putFunc) error {
	for _, name := range profiles.Names() {
		text, err := profiles.Read(name)
		if err != nil {
			return err
		}
		if err := put("usr/share/memjail/policies/"+name+".toml", text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// bom writes the modules that the program is made of, in the format of CycloneDX.
func (b *builder) bom(program, arch string) error {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return err
	}
	type component struct {
		Type    string `json:"type"`
		Name    string `json:"name"`
		Version string `json:"version"`
		PURL    string `json:"purl"`
	}
	module := func(kind, name, version string) component {
		return component{kind, name, version, "pkg:golang/" + name + "@" + version}
	}
	components := []component{module("library", "std", strings.TrimPrefix(info.GoVersion, "go"))}
	for _, m := range info.Deps {
		components = append(components, module("library", m.Path, m.Version))
	}
	slices.SortFunc(components, func(x, y component) int { return strings.Compare(x.Name, y.Name) })
	text, err := json.MarshalIndent(map[string]any{"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
		"metadata": map[string]any{"timestamp": b.time.Format("2006-01-02T15:04:05Z"),
			"component": module("application", "github.com/memjail/memjail", "v"+b.version)},
		"components": components}, "", "  ")
	if err != nil {
		return err
	}
	name := fmt.Sprintf("memjail-%s-linux-%s.cdx.json", b.version, arch)
	return os.WriteFile(filepath.Join(b.out, name), append(text, '\n'), 0o644)
}
