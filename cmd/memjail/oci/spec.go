package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// object is a JSON object, whose values stay as they are.
type object map[string]json.RawMessage

// readObject decodes an object. The names are those that the caller looks up: none may
// also be written in another case, since runtimes in Go would read that one as well.
func readObject(what string, data []byte, names ...string) (object, error) {
	var o object
	if err := json.Unmarshal(data, &o); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	for key := range o {
		for _, name := range names {
			if key != name && strings.EqualFold(key, name) {
				return nil, fmt.Errorf("%s: %q is not the name of a field: want %q", what, key, name)
			}
		}
	}
	return o, nil
}

// get decodes a field; an absent one leaves v as it is.
func (o object) get(name string, v any) error {
	if o[name] == nil {
		return nil
	}
	if err := json.Unmarshal(o[name], v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// set encodes a field.
func (o object) set(name string, v any) error {
	text, err := marshal(v)
	o[name] = text
	return err
}

// marshal encodes without the escapes that are for HTML.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// Process is the configuration of a process in a container: the field "process" of
// config.json, or the file of "exec --process".
type Process struct {
	fields object
	args   []string
	raw    []json.RawMessage
	env    []string
	cwd    string
}

// ReadProcess reads the configuration of a process.
func ReadProcess(data []byte) (*Process, error) {
	fields, err := readObject("process", data, "args", "env", "cwd")
	if err != nil {
		return nil, err
	}
	p := &Process{fields: fields}
	if err := errors.Join(fields.get("args", &p.args), fields.get("args", &p.raw), fields.get("env", &p.env),
		fields.get("cwd", &p.cwd)); err != nil {
		return nil, fmt.Errorf("process.%w", err)
	}
	if len(p.args) == 0 {
		return nil, errors.New("process.args: no command")
	}
	return p, nil
}

// Env are the variables that the process gets.
func (p *Process) Env() []string { return p.env }

// Dir is the directory in the container that the process starts in.
func (p *Process) Dir() string { return p.cwd }

// Wrap puts a prefix in front of the command.
func (p *Process) Wrap(prefix Prefix) ([]byte, error) {
	var args []json.RawMessage
	for _, arg := range prefix.Args() {
		text, err := marshal(arg)
		if err != nil {
			return nil, err
		}
		args = append(args, text)
	}
	fields := make(object, len(p.fields))
	for name, value := range p.fields {
		fields[name] = value
	}
	if err := fields.set("args", append(args, p.raw...)); err != nil {
		return nil, err
	}
	return marshal(fields)
}

// Spec is the configuration of a container, config.json.
type Spec struct {
	fields      object
	process     *Process
	mounts      []mount
	annotations map[string]string
	wrapped     *Prefix // it has been wrapped before
}

// mount is an entry of "mounts", with the text of the whole entry.
type mount struct {
	destination, kind string
	raw               json.RawMessage
}

// ReadSpec reads a configuration. In one that has been wrapped before, the prefix and the
// mounts of memjail are taken out again, so that a bundle can be run several times.
func ReadSpec(data []byte) (*Spec, error) {
	fields, err := readObject("config.json", data, "process", "mounts", "annotations", "linux")
	if err != nil {
		return nil, err
	}
	s := &Spec{fields: fields}
	if fields["process"] == nil {
		return nil, errors.New("config.json: no process")
	}
	if s.process, err = ReadProcess(fields["process"]); err != nil {
		return nil, fmt.Errorf("config.json: %w", err)
	}
	if err := fields.get("annotations", &s.annotations); err != nil {
		return nil, fmt.Errorf("config.json: %w", err)
	}
	if err := s.readMounts(); err != nil {
		return nil, fmt.Errorf("config.json: %w", err)
	}
	s.unwrap()
	return s, nil
}

func (s *Spec) readMounts() error {
	var all []json.RawMessage
	if err := s.fields.get("mounts", &all); err != nil {
		return err
	}
	for i, raw := range all {
		o, err := readObject(fmt.Sprintf("mounts[%d]", i), raw, "destination", "type")
		m := mount{raw: raw}
		if err := errors.Join(err, o.get("destination", &m.destination), o.get("type", &m.kind)); err != nil {
			return err
		}
		m.destination = path.Clean("/" + m.destination)
		s.mounts = append(s.mounts, m)
	}
	return nil
}

// unwrap takes out what Wrap has put in. Whoever imitates that gains nothing: what is put
// in afterwards is memjail's own.
func (s *Spec) unwrap() {
	prefix, count, ok := cutPrefix(s.process.args)
	if !ok || count == len(s.process.args) ||
		!slices.ContainsFunc(s.mounts, func(m mount) bool { return m.destination == Directory }) {
		return
	}
	s.wrapped = &prefix
	s.process.args, s.process.raw = s.process.args[count:], s.process.raw[count:]
	s.mounts = slices.DeleteFunc(s.mounts, func(m mount) bool { return isBelow(m.destination, Directory) })
}

// isBelow reports whether a clean path is a directory or in it.
func isBelow(name, dir string) bool {
	return name == dir || strings.HasPrefix(name, strings.TrimSuffix(dir, "/")+"/")
}

// Annotations are those of the container.
func (s *Spec) Annotations() map[string]string { return s.annotations }

// Process is the container's first process, as it is without memjail.
func (s *Spec) Process() *Process { return s.process }

// Wrapped returns the prefix of a configuration that has been wrapped before.
func (s *Spec) Wrapped() (Prefix, bool) {
	if s.wrapped == nil {
		return Prefix{}, false
	}
	return *s.wrapped, true
}

// Check returns why memjail cannot be put into the container.
func (s *Spec) Check() error {
	dev := mount{}
	for _, m := range s.mounts {
		switch {
		case isBelow(m.destination, Directory):
			return fmt.Errorf("the container has a mount at %s, which is memjail's place", m.destination)
		case isBelow("/dev", m.destination):
			dev = m
		}
	}
	if dev.destination != "/dev" || dev.kind != "tmpfs" {
		return errors.New("the container has no /dev of its own (a tmpfs), in which memjail could be put")
	}
	return s.checkSeccomp()
}

// Bind is a file outside, and its path in the container.
type Bind struct{ Source, Destination string }

// ociMount is an entry of "mounts" that memjail adds.
type ociMount struct {
	Destination string   `json:"destination"`
	Type        string   `json:"type"`
	Source      string   `json:"source"`
	Options     []string `json:"options"`
}

// Wrap returns the configuration with a prefix in front of its process, and with files that
// the container can read and not change.
func (s *Spec) Wrap(prefix Prefix, binds []Bind) ([]byte, error) {
	var mounts []json.RawMessage
	for _, m := range s.mounts {
		mounts = append(mounts, m.raw)
	}
	added := []ociMount{{Directory, "tmpfs", "tmpfs", []string{"ro", "nosuid", "nodev", "mode=755", "size=64k"}}}
	for _, b := range binds {
		added = append(added, ociMount{b.Destination, "bind", b.Source, []string{"bind", "ro", "nosuid", "nodev"}})
	}
	for _, m := range added {
		text, err := marshal(m)
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, text)
	}
	process, err := s.process.Wrap(prefix)
	if err != nil {
		return nil, err
	}
	fields := make(object, len(s.fields))
	for name, value := range s.fields {
		fields[name] = value
	}
	fields["process"] = process
	if err := fields.set("mounts", mounts); err != nil {
		return nil, err
	}
	return marshal(fields)
}
