package reporttest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// Schema is the part of JSON Schema (2020-12) that the schemas of memjail's output use.
// Reading it is strict: a keyword that is not known here would not be tested.
type Schema struct {
	Schema               string             `json:"$schema"`
	ID                   string             `json:"$id"`
	Ref                  string             `json:"$ref"`
	Definitions          map[string]*Schema `json:"$defs"`
	Title                string             `json:"title"`
	Description          string             `json:"description"`
	OneOf                []*Schema          `json:"oneOf"`
	Type                 string             `json:"type"`
	Properties           map[string]*Schema `json:"properties"`
	Required             []string           `json:"required"`
	AdditionalProperties *bool              `json:"additionalProperties"`
	Items                *Schema            `json:"items"`
	Enum                 []string           `json:"enum"`
	Const                any                `json:"const"`
	Pattern              string             `json:"pattern"`
	Format               string             `json:"format"`
	Minimum              *float64           `json:"minimum"`
}

// ReadSchema reads the schema in a file.
func ReadSchema(t *testing.T, file string) *Schema {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	var schema Schema
	if err := dec.Decode(&schema); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return &schema
}

// Complaints says what of a decoded value the schema does not allow.
func (s *Schema) Complaints(value any) []string {
	c := checker{root: s}
	c.check(s, value, "")
	return c.found
}

// SameNames reports what a Go type has and the description of it has not, or the other way
// round. more are names that are written without being fields.
func SameNames(t *testing.T, what string, s *Schema, of reflect.Type, more ...string) {
	t.Helper()
	names := more
	for i := range of.NumField() {
		if name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ","); name != "-" {
			names = append(names, name)
		}
	}
	for _, name := range names {
		if s.Properties[name] == nil {
			t.Errorf("a %s has %q, the schema not", what, name)
		}
	}
	for name, p := range s.Properties {
		if !slices.Contains(names, name) {
			t.Errorf("the schema knows %q, which no %s has", name, what)
		}
		if p.Description == "" && p.Ref == "" {
			t.Errorf("the schema does not say what %q of a %s is", name, what)
		}
	}
}

// checker compares a value with a schema.
type checker struct {
	root  *Schema
	found []string
}

func (c *checker) wrong(at, format string, args ...any) {
	c.found = append(c.found, at+": "+fmt.Sprintf(format, args...))
}

func (c *checker) check(s *Schema, value any, at string) {
	switch {
	case s.Ref != "":
		c.check(c.root.Definitions[strings.TrimPrefix(s.Ref, "#/$defs/")], value, at)
		return
	case len(s.OneOf) > 0:
		c.checkOne(s, value, at)
		return
	}
	switch v := value.(type) {
	case map[string]any:
		c.checkObject(s, v, at)
	case []any:
		if s.Type != "array" {
			c.wrong(at, "a list, want %s", s.Type)
			break
		}
		for i, member := range v {
			c.check(s.Items, member, fmt.Sprintf("%s/%d", at, i))
		}
	case string:
		c.checkString(s, v, at)
	case float64:
		if s.Type != "number" && (s.Type != "integer" || v != float64(int64(v))) {
			c.wrong(at, "%v, want %s", v, s.Type)
		}
		if s.Minimum != nil && v < *s.Minimum {
			c.wrong(at, "%v is less than %v", v, *s.Minimum)
		}
	case bool:
		if s.Type != "boolean" || s.Const != nil && s.Const != v {
			c.wrong(at, "%v, want %s %v", v, s.Type, s.Const)
		}
	default:
		c.wrong(at, "%T, which no report has", value)
	}
}

// checkOne: exactly one of the schemas allows the value.
func (c *checker) checkOne(s *Schema, value any, at string) {
	fits := 0
	var all []string
	for _, one := range s.OneOf {
		each := checker{root: c.root}
		if each.check(one, value, at); len(each.found) == 0 {
			fits++
		}
		all = append(all, each.found...)
	}
	if fits != 1 {
		c.wrong(at, "%d of the %d forms fit: %s", fits, len(s.OneOf), strings.Join(all, "; "))
	}
}

func (c *checker) checkObject(s *Schema, object map[string]any, at string) {
	if s.Type != "object" {
		c.wrong(at, "an object, want %s", s.Type)
	}
	for _, key := range s.Required {
		if _, ok := object[key]; !ok {
			c.wrong(at, "lacks %q", key)
		}
	}
	for key, member := range object {
		switch p := s.Properties[key]; {
		case p != nil:
			c.check(p, member, at+"/"+key)
		case s.AdditionalProperties == nil || *s.AdditionalProperties:
			c.wrong(at, "the schema should say that nothing is allowed but what it names")
		default:
			c.wrong(at, "has %q, which the schema does not know", key)
		}
	}
}

func (c *checker) checkString(s *Schema, text, at string) {
	if s.Type != "string" {
		c.wrong(at, "a string, want %s", s.Type)
	}
	if s.Enum != nil && !slices.Contains(s.Enum, text) || s.Const != nil && s.Const != text {
		c.wrong(at, "%q is none of %q %v", text, s.Enum, s.Const)
	}
	if s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(text) {
		c.wrong(at, "%q does not match %s", text, s.Pattern)
	}
	if _, err := time.Parse(time.RFC3339, text); s.Format == "date-time" && err != nil {
		c.wrong(at, "%v", err)
	}
}
