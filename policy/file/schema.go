package file

import (
	"encoding/json"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/profiles"
)

// node is a part of a JSON schema. Its names are sorted when it is written, so the text of
// the schema is always the same.
type node map[string]any

// SchemaID is where the JSON schema is published; editors find it by a line "#:schema ".
const SchemaID = "https://raw.githubusercontent.com/memjail/memjail/main/docs/policy-schema.json"

// Schema returns the JSON schema (draft 2020-12) of a policy file, for editors and for
// programs that write policies. It knows neither variables nor other files: what it
// accepts can still contradict itself.
func Schema() []byte {
	root := tableSchema()
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["$id"] = SchemaID
	root["title"] = "memjail policy"
	root["required"] = []string{"version"}
	properties := root["properties"].(node)
	for _, k := range keys() {
		at := properties
		name := k.name
		if table, own, ok := strings.Cut(name, "."); ok {
			inner, ok := at[table].(node)
			if !ok {
				inner = tableSchema()
				at[table] = inner
			}
			at, name = inner["properties"].(node), own
		}
		at[name] = k.schema()
	}
	properties["network"].(node)["minProperties"] = 1
	properties[testTable] = node{"type": "array", "items": testSchema(), "description": about[testTable]}
	describe(testTable, properties[testTable].(node)["items"].(node))
	describe("", root)
	text, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil // cannot happen with maps, slices, strings and numbers; a test checks it
	}
	return append(text, '\n')
}

func tableSchema() node {
	return node{"type": "object", "additionalProperties": false, "properties": node{}}
}

func integerSchema(lowest, highest int) node {
	return node{"type": "integer", "minimum": lowest, "maximum": highest}
}

func listSchema(item node) node {
	return node{"type": "array", "items": item, "uniqueItems": true}
}

// pathSchema is a path after a prefix. The path is absolute, or begins with a variable.
func pathSchema(prefix string) node {
	return node{
		"type": "string", "pattern": `^` + prefix + `(/|~$|~/|\$\{(HOME|PWD|USER|XDG_RUNTIME_DIR|env:[^}]+)\})`,
		"not": node{"pattern": `(^|/)\.\.(/|$)`},
	}
}

func pathsSchema() node { return listSchema(pathSchema("")) }

// optionalPathsSchema is a list of paths, which may be missing if they begin with "?".
func optionalPathsSchema() node { return listSchema(pathSchema(`\??`)) }

func unixSchema() node {
	element := node{"anyOf": []node{pathSchema(""), {"const": policy.UnixOwn}}}
	return node{"anyOf": []node{listSchema(element), {"enum": []string{unixAll, policy.UnixOwn}}}}
}

func extendsSchema() node {
	item := node{"anyOf": []node{
		{"enum": profiles.Names()},
		{"type": "string", "pattern": `^[^~$][^$]*$`}, // a file, or a policy of the user or the system
	}}
	return node{"type": "array", "items": item, "minItems": 1, "uniqueItems": true}
}

func keepSchema() node {
	return listSchema(node{"type": "string", "pattern": `^([^=*]+\*?|\*)$`})
}

func dropSchema() node {
	return listSchema(node{"type": "string", "pattern": `^!?[^=]+$`})
}

func setSchema() node {
	return node{
		"type": "object", "propertyNames": node{"pattern": `^[^=*]+$`},
		"additionalProperties": node{"type": "string"},
	}
}

// capabilitySchema suggests the names, and accepts them in any case.
func capabilitySchema() node {
	return listSchema(node{"anyOf": []node{
		{"enum": capabilityNames()},
		{"type": "string", "pattern": `^[A-Za-z_]+$`},
	}})
}

// familySchema suggests the names, and accepts them in any case.
func familySchema() node {
	return listSchema(node{"anyOf": []node{
		{"enum": familyNames()},
		{"type": "string", "pattern": `^[A-Za-z0-9_]+$`},
	}})
}

func callSchema() node {
	var names []string
	names = append(names, groupNames()...)
	for _, name := range policy.CallNames() {
		if !policy.VitalCall(name) {
			names = append(names, name)
		}
	}
	for _, u := range policy.CallUses() {
		names = append(names, u.Name)
	}
	return listSchema(node{"enum": names})
}

func limitSchema(kind policy.LimitKind) node {
	var suffixes []string
	for _, u := range limitUnits(kind.Unit) {
		suffixes = append(suffixes, u.suffix)
	}
	one := `[0-9]+`
	if len(suffixes) > 0 {
		one += "(" + strings.Join(suffixes, "|") + ")?"
	}
	number := node{"type": "integer", "minimum": 0}
	if kind.Max != policy.Unlimited {
		number["maximum"] = kind.Max
	}
	if kind.Unlimited {
		one = "(" + one + "|" + unlimited + ")"
	}
	return node{"anyOf": []node{number, {"type": "string", "pattern": "^" + one + "(:" + one + ")?$"}}}
}

// testSchema has the keys that each access needs.
func testSchema() node {
	s := tableSchema()
	s["required"] = []string{"name", "expect"}
	properties := s["properties"].(node)
	properties["name"] = node{"type": "string", "pattern": `\S`}
	properties["access"] = node{"enum": policy.Names[policy.Action]()}
	properties["expect"] = node{"enum": policy.Names[policy.Expect]()}
	properties["path"] = pathSchema("")
	properties["port"] = integerSchema(0, maxPort)
	properties["call"] = node{"enum": policy.CallNames()}
	properties["run"] = node{"type": "array", "minItems": 1, "items": node{"type": "string"}}
	cases := []node{{
		"if":   node{"not": node{"required": []string{"access"}}},
		"then": node{"required": []string{"run"}},
	}}
	for _, name := range policy.Names[policy.Action]() {
		action, _ := policy.Parse[policy.Action](name)
		object := testObject[action]
		others := node{}
		for _, other := range []string{"path", "port", "call", "run"} {
			if other != object {
				others[other] = false
			}
		}
		cases = append(cases, node{
			"if":   node{"required": []string{"access"}, "properties": node{"access": node{"const": name}}},
			"then": node{"required": []string{object}, "properties": others},
		})
	}
	s["allOf"] = cases
	return s
}
