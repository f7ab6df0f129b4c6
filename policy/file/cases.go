package file

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/memjail/memjail/policy"
)

// testTable is the list of tables with a policy's tests.
const testTable = "test"

// The keys of a test, in the order in which they are written.
var testKeys = []string{"name", "access", "path", "port", "call", "run", "expect"}

// testObject is the key that a test needs, by its access.
var testObject = map[policy.Action]string{
	policy.ActionRead: "path", policy.ActionWrite: "path", policy.ActionExecute: "path",
	policy.ActionConnect: "port", policy.ActionBind: "port", policy.ActionSend: "port",
	policy.ActionReceive: "port", policy.ActionCall: "call", policy.ActionRun: "run",
}

// testWritten is the key under which the origins of a policy have what a test says: 0 is its
// path, the others the words that it runs.
func testWritten(word int) string { return fmt.Sprintf("%s.%d", testTable, word) }

// testCase builds one test.
type testCase struct {
	*builder
	test  policy.Test
	given map[string]value
	at    Position
	bad   bool
}

func (t *testCase) refuse(v value, name, format string, args ...any) {
	t.bad = true
	t.key = &key{name: testTable + "." + name}
	t.wrong(v, format, args...)
}

// lacks adds an error about a missing key.
func (t *testCase) lacks(name, format string, args ...any) {
	t.bad = true
	t.errs = append(t.errs, &Error{Source: t.file, Position: t.at, Key: testTable + "." + name,
		Reason: "is missing: " + fmt.Sprintf(format, args...)})
}

// tests adds the tests of a file. A test replaces one of the same name from the layers
// below, so that a layer that opens something can change the test about it.
func (b *builder) tests(records []*record) {
	names := map[string]bool{}
	for _, r := range records {
		t := testCase{builder: b, given: map[string]value{}, at: r.at}
		t.read(r)
		if t.bad {
			continue
		}
		if names[t.test.Name] {
			t.refuse(t.given["name"], "name", "another test in this file has the same name: want a unique name")
			continue
		}
		names[t.test.Name] = true
		same := func(o policy.Test) bool { return o.Name == t.test.Name }
		if i := slices.IndexFunc(b.policy.Tests, same); i >= 0 {
			b.policy.Tests[i] = t.test
		} else {
			b.policy.Tests = append(b.policy.Tests, t.test)
		}
		b.policy.Origins.Note(testTable, t.test.Name, b.origin(value{at: r.at}))
		for i, v := range slices.Concat([]value{t.given["path"]}, t.given["run"].items) {
			at := b.origin(v)
			at.Written = v.text
			b.policy.Origins.Note(testWritten(i), t.test.Name, at)
		}
	}
}

func (t *testCase) read(r *record) {
	for _, f := range r.fields {
		if !slices.Contains(testKeys, f.name) {
			t.bad = true
			t.errs = append(t.errs, &Error{Source: t.file, Position: f.at, Reason: "unknown key " +
				strconv.Quote(testTable+"."+f.name) + didYouMean(f.name, testKeys)})
			continue
		}
		t.given[f.name] = f.value
	}
	t.name()
	t.expect()
	if !t.access() {
		return
	}
	object := testObject[t.test.Access]
	for _, name := range []string{"path", "port", "call", "run"} {
		v, ok := t.given[name]
		switch {
		case ok && name != object:
			t.refuse(v, name, "cannot be used with access = %q, which needs %s", t.test.Access, object)
		case !ok && name == object:
			t.lacks(name, "access = %q needs it", t.test.Access)
		case ok:
			t.object(name, v)
		}
	}
}

func (t *testCase) name() {
	v, ok := t.given["name"]
	switch {
	case !ok:
		t.lacks("name", `write name = "..." with a description of the test`)
	case v.shape != shapeString || strings.TrimSpace(v.text) == "" || strings.ContainsAny(v.text, "\n\x00"):
		t.refuse(v, "name", "want one line of text")
	}
	t.test.Name = v.text
}

func (t *testCase) expect() {
	v, ok := t.given["expect"]
	e, known := policy.Parse[policy.Expect](v.text)
	switch {
	case !ok:
		t.lacks("expect", `write expect = "allow" or "deny"`)
	case !known || v.shape != shapeString:
		t.refuse(v, "expect", "want %s", oneOf(policy.Names[policy.Expect]()))
	}
	t.test.Expect = e
}

// access reads the access, which can be left out in a test with run.
func (t *testCase) access() bool {
	v, ok := t.given["access"]
	a, known := policy.Parse[policy.Action](v.text)
	if _, run := t.given["run"]; !ok && run {
		a, ok, known, v.shape = policy.ActionRun, true, true, shapeString
	}
	switch {
	case !ok:
		t.lacks("access", "want %s", oneOf(policy.Names[policy.Action]()))
	case !known || v.shape != shapeString:
		t.refuse(v, "access", "want %s", oneOf(policy.Names[policy.Action]()))
	default:
		t.test.Access = a
		return true
	}
	return false
}

// object reads the path, port, call or command of the test.
func (t *testCase) object(name string, v value) {
	switch name {
	case "path":
		if v.shape != shapeString {
			t.refuse(v, name, "want a string")
			return
		}
		clean, reason, unset := t.scopedPath(v.text)
		if unset && t.untested {
			t.bad = true
		} else if reason != "" {
			t.refuse(v, name, "%s", reason)
		}
		t.test.Path = clean
	case "port":
		lowest := 1
		if t.test.Access == policy.ActionBind || t.test.Access == policy.ActionReceive {
			lowest = 0
		}
		port, ok := parsePort(v, lowest)
		if !ok {
			t.refuse(v, name, "want a whole number from %d to %d", lowest, maxPort)
		}
		t.test.Port = port
	case "call":
		if v.shape != shapeString || !policy.KnownCall(v.text) {
			t.refuse(v, name, "unknown system call%s", didYouMean(v.text, policy.CallNames()))
		}
		t.test.Call = v.text
	case "run":
		t.run(v)
	}
}

func (t *testCase) run(v value) {
	if v.shape != shapeArray || len(v.items) == 0 {
		t.refuse(v, "run", `want a program and its arguments, such as ["cc", "--version"]`)
		return
	}
	for i, item := range v.items {
		text, err := t.scope.expand(item.text, false)
		switch {
		case item.shape != shapeString:
			t.refuse(item, "run", "want a string")
		case err != nil && err.unset && t.untested:
			t.bad = true
		case err != nil:
			t.refuse(item, "run", "%s", err.reason)
		case strings.ContainsRune(text, 0), i == 0 && text == "":
			t.refuse(item, "run", "the name of a program must not be empty, and no argument may contain a NUL byte")
		}
		t.test.Run = append(t.test.Run, text)
	}
}
