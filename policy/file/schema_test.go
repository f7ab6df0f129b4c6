package file

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/memjail/memjail/profiles"
	"github.com/pelletier/go-toml/v2"
)

const schemaFile = "../../docs/policy-schema.json"

// Editors use the file and do not run memjail.
func TestSchemaFile(t *testing.T) {
	want := Schema()
	if *update {
		if err := os.WriteFile(schemaFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(schemaFile)
	if err != nil || string(got) != string(want) || len(want) < 1000 {
		t.Errorf("docs/policy-schema.json is not what Schema gives (%d bytes, %v): run go test "+
			"./policy/file -update", len(want), err)
	}
}

// validate validates a value by a schema, in the subset of JSON schema that Schema uses. An
// unknown keyword is an error, so that none is ignored.
func validate(schema, v any) error {
	s, ok := schema.(map[string]any)
	if !ok {
		if schema == true {
			return nil
		}
		return fmt.Errorf("nothing may stand here")
	}
	for keyword, arg := range s {
		check, ok := keywords[keyword]
		if !ok {
			return fmt.Errorf("unknown keyword %q", keyword)
		}
		if err := check(s, arg, v); err != nil {
			return err
		}
	}
	return nil
}

var keywords map[string]func(s map[string]any, arg, v any) error

func init() {
	plain := func(map[string]any, any, any) error { return nil }
	keywords = map[string]func(s map[string]any, arg, v any) error{
		"$schema": plain, "$id": plain, "description": plain, "title": plain, "then": plain, "deprecated": plain,
		"type": checkType, "const": checkConst, "enum": checkEnum, "pattern": checkPattern, "not": checkNot,
		"anyOf": checkAnyOf,
		"allOf": checkAllOf, "if": checkIf, "minimum": checkMinimum, "maximum": checkMaximum, "items": checkItems,
		"minItems": checkMinItems, "uniqueItems": checkUnique, "properties": checkProperties, "required": checkRequired,
		"additionalProperties": checkAdditional, "propertyNames": checkNames, "minProperties": checkMinProperties,
	}
}

func checkType(_ map[string]any, arg, v any) error {
	got := ""
	switch v := v.(type) {
	case string:
		got = "string"
	case float64:
		got = "number"
		if v == math.Trunc(v) {
			got = "integer"
		}
	case []any:
		got = "array"
	case map[string]any:
		got = "object"
	case bool:
		got = "boolean"
	}
	if got != arg {
		return fmt.Errorf("%v is %s, want %v", v, got, arg)
	}
	return nil
}

func checkConst(_ map[string]any, arg, v any) error { return checkEnum(nil, []any{arg}, v) }

func checkEnum(_ map[string]any, arg, v any) error {
	for _, want := range arg.([]any) {
		if reflect.DeepEqual(want, v) {
			return nil
		}
	}
	return fmt.Errorf("%v is none of %v", v, arg)
}

func checkPattern(_ map[string]any, arg, v any) error {
	if s, ok := v.(string); ok && !regexp.MustCompile(arg.(string)).MatchString(s) {
		return fmt.Errorf("%q does not match %s", s, arg)
	}
	return nil
}

func checkNot(_ map[string]any, arg, v any) error {
	if validate(arg, v) == nil {
		return fmt.Errorf("%v is what it must not be", v)
	}
	return nil
}

func checkAnyOf(_ map[string]any, arg, v any) error {
	var err error
	for _, one := range arg.([]any) {
		if err = validate(one, v); err == nil {
			return nil
		}
	}
	return err
}

func checkAllOf(_ map[string]any, arg, v any) error {
	for _, one := range arg.([]any) {
		if err := validate(one, v); err != nil {
			return err
		}
	}
	return nil
}

func checkIf(s map[string]any, arg, v any) error {
	if validate(arg, v) != nil {
		return nil
	}
	return validate(s["then"], v)
}

func checkMinimum(_ map[string]any, arg, v any) error {
	if n, ok := v.(float64); ok && n < arg.(float64) {
		return fmt.Errorf("%v is below %v", v, arg)
	}
	return nil
}

func checkMaximum(_ map[string]any, arg, v any) error {
	if n, ok := v.(float64); ok && n > arg.(float64) {
		return fmt.Errorf("%v is above %v", v, arg)
	}
	return nil
}

func checkItems(_ map[string]any, arg, v any) error {
	list, _ := v.([]any)
	for _, item := range list {
		if err := validate(arg, item); err != nil {
			return err
		}
	}
	return nil
}

func checkMinItems(_ map[string]any, arg, v any) error {
	if list, ok := v.([]any); ok && float64(len(list)) < arg.(float64) {
		return fmt.Errorf("%d items", len(list))
	}
	return nil
}

func checkUnique(_ map[string]any, _, v any) error {
	list, _ := v.([]any)
	for i, item := range list {
		if slices.ContainsFunc(list[:i], func(o any) bool { return reflect.DeepEqual(o, item) }) {
			return fmt.Errorf("%v is listed twice", item)
		}
	}
	return nil
}

func checkProperties(_ map[string]any, arg, v any) error {
	object, _ := v.(map[string]any)
	for name, schema := range arg.(map[string]any) {
		if field, ok := object[name]; ok {
			if err := validate(schema, field); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

func checkRequired(_ map[string]any, arg, v any) error {
	object, _ := v.(map[string]any)
	for _, name := range arg.([]any) {
		if _, ok := object[name.(string)]; !ok {
			return fmt.Errorf("%s is missing", name)
		}
	}
	return nil
}

func checkAdditional(s map[string]any, arg, v any) error {
	object, _ := v.(map[string]any)
	known, _ := s["properties"].(map[string]any)
	for name, field := range object {
		if _, ok := known[name]; ok {
			continue
		}
		if err := validate(arg, field); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func checkNames(_ map[string]any, arg, v any) error {
	object, _ := v.(map[string]any)
	for name := range object {
		if err := validate(arg, name); err != nil {
			return err
		}
	}
	return nil
}

func checkMinProperties(_ map[string]any, arg, v any) error {
	if object, ok := v.(map[string]any); ok && float64(len(object)) < arg.(float64) {
		return fmt.Errorf("%d properties", len(object))
	}
	return nil
}

// bySchema validates the text of a policy file.
func bySchema(t *testing.T, text []byte) error {
	t.Helper()
	var schema any
	if err := json.Unmarshal(Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	var raw map[string]any
	if err := toml.Unmarshal(text, &raw); err != nil {
		return err
	}
	converted, err := json.Marshal(raw)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(converted, &v); err != nil {
		t.Fatal(err)
	}
	return validate(schema, v)
}

// beyondSchema are mistakes that no schema can find: in other files, in the environment, and
// in values that are wrong only together.
var beyondSchema = map[string]bool{
	"allow-procfs": true, "no-write-procfs": true,
	"home-dir":     true,
	"extends":      true, // a policy of the user may have the name
	"capabilities": true, // their names may be written in any case
}

// The schema and the parser agree on every fixture, profile and resolved policy.
func TestSchemaAgrees(t *testing.T) {
	for _, name := range list(t, "valid") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := bySchema(t, text); err != nil {
			t.Errorf("%s: valid, and refused by the schema: %v", name, err)
		}
	}
	for _, name := range list(t, "invalid") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		beyond := beyondSchema[strings.TrimSuffix(filepath.Base(name), ".toml")]
		if err := bySchema(t, text); (err == nil) != beyond {
			t.Errorf("%s: the schema says %v, beyond it %t", name, err, beyond)
		}
	}
	for _, name := range profiles.Names() {
		text, err := profiles.Read(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := bySchema(t, text); err != nil {
			t.Errorf("profile %s: %v", name, err)
		}
		p, err := here.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := bySchema(t, Render(p)); err != nil {
			t.Errorf("profile %s resolved: %v", name, err)
		}
	}
}

// Every key, table and test key has a description, in about and in the schema.
func TestAbout(t *testing.T) {
	described := map[string]bool{testTable: true}
	for _, k := range keys() {
		described[k.name] = true
		if table, _, ok := strings.Cut(k.name, "."); ok {
			described[table] = true
		}
	}
	for _, name := range testKeys {
		described[testTable+"."+name] = true
	}
	for name := range described {
		if text := about[name]; len(text) < 10 || !strings.HasSuffix(text, ".") || len(text) > 110 {
			t.Errorf("%s: %q", name, text)
		}
	}
	for name := range about {
		if !described[name] {
			t.Errorf("%s is described, and is no key", name)
		}
	}
	if got := strings.Count(string(Schema()), `"description": `); got != len(about)+1 { // a list of tests has two
		t.Errorf("the schema has %d descriptions, want %d", got, len(about)+1)
	}
	for _, k := range Keys() {
		if _, isEnum := findKey(k.Name).schema()["enum"]; isEnum && len(k.Values) == 0 {
			t.Errorf("%s: no values", k.Name)
		}
	}
}

// The schema refuses every single line that the parser refuses.
func TestSchemaRefuses(t *testing.T) {
	for _, line := range []string{
		`min-abi = -1`, `min-abi = "6"`, `unknown = 1`, `memory.access = "none"`, `memory.unknown = "x"`,
		`procfs.write = ["mem"]`,
		`paths.ro = "x"`, `paths.ro = ["x"]`, `paths.ro = ["/a/../b"]`, `paths.ro = ["${FOO}/x"]`,
		`paths.ro = ["/a", "/a"]`, `paths.ro = [""]`,
		`network = {}`, `network.connect-tcp = [0]`, `network.bind-tcp = [65536]`, `network.unix = ["x"]`,
		`environment.keep = ["A*B"]`,
		`environment.set = { "A=B" = "1" }`, `environment.set = { A = 1 }`, `capabilities.keep = ["7"]`,
		`limits.as = "4 G"`, `limits.nice = 41`,
		`limits.nofile = "unlimited"`, `limits.core = 1`, `syscalls.deny = ["execve"]`,
		`syscalls.deny = ["@none"]`, `syscalls.abi = "x32"`,
		`extends = []`, `extends = [""]`, `extends = ["~/x"]`, `test = [{}]`, `test = [{ name = "x", expect = "deny" }]`,
		`test = [{ name = "x", access = "read", expect = "deny" }]`,
		`test = [{ name = "x", access = "read", path = "/x", port = 1, expect = "deny" }]`,
		`test = [{ name = "x", run = [], expect = "deny" }]`,
		`test = [{ name = "x", run = ["true"], expect = "maybe" }]`,
	} {
		text := []byte("version = 1\n" + line + "\n")
		if _, err := Parse("x.toml", text, Default()); err == nil {
			t.Errorf("%s: the parser takes it", line)
		}
		if err := bySchema(t, text); err == nil {
			t.Errorf("%s: the schema takes it", line)
		}
	}
}
