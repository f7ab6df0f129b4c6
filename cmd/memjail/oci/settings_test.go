package oci

import (
	"strings"
	"testing"
)

func TestSettings(t *testing.T) {
	s, err := ParseSettings("oci.toml", []byte(`runtime = "crun"
policies = ["workspace", "/etc/memjail/svc.toml"]
memory = ["deny", "no-write"]
`))
	if err != nil || s.Policy != "memory" || s.Runtime != "crun" {
		t.Fatalf("%+v, %v", s, err)
	}
	for _, test := range []struct {
		annotations    map[string]string
		policy, memory string
		err            string
	}{
		{nil, "memory", "", ""},
		{map[string]string{"other": "x", "io.memjailed": "y"}, "memory", "", ""},
		{map[string]string{AnnotationPolicy: "memory"}, "memory", "", ""},
		{map[string]string{AnnotationPolicy: "/etc/memjail/svc.toml", AnnotationMemory: "no-write"},
			"/etc/memjail/svc.toml", "no-write", ""},
		{map[string]string{AnnotationPolicy: "strict"}, "", "", "not among"},
		{map[string]string{AnnotationPolicy: ""}, "", "", "not among"},
		{map[string]string{AnnotationPolicy: "/etc/memjail/../../tmp/mine.toml"}, "", "", "not among"},
		{map[string]string{AnnotationMemory: "allow"}, "", "", "not among"},
		{map[string]string{"io.memjail.polcy": "memory"}, "", "", "unknown annotation"},
	} {
		policy, memory, err := s.Choose(test.annotations)
		if test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) || test.err == "" && err != nil ||
			policy != test.policy || memory != test.memory {
			t.Errorf("%v: %q %q %v", test.annotations, policy, memory, err)
		}
	}
	if _, _, err := DefaultSettings().Choose(map[string]string{AnnotationMemory: "no-write"}); err == nil {
		t.Error("without settings a container chooses no-write")
	}
}

func TestSettingsErrors(t *testing.T) {
	for text, want := range map[string]string{
		"polcy = 'x'":                     "oci.toml:1:1: unknown key \"polcy\"",
		"\npolicy = ":                     "oci.toml:2:",
		"policy = './x.toml'":             "clean absolute path",
		"policies = ['/a/../b']":          "clean absolute path",
		"policies = ['']":                 "is empty",
		"memory = ['write']":              "want deny",
		"runtime = 'bin/runc'":            "not an absolute path",
		"program = 'memjail'":             "not an absolute path",
		"policy = 3":                      "oci.toml",
		"runtime = 'runc'\nruntime = 'x'": "oci.toml",
	} {
		if _, err := ParseSettings("oci.toml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}
