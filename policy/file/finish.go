package file

import (
	"fmt"

	"github.com/memjail/memjail/policy"
)

// apply applies a file's document, as one layer, to the policy.
func (b *builder) apply(doc *document) {
	if e, ok := doc.entry(optionalKey); ok {
		for _, item := range e.value.items {
			b.optional = append(b.optional, item.text)
		}
	}
	for _, k := range keys() {
		if e, ok := doc.entry(k.name); ok {
			b.key = k
			k.set(b, e.value)
		}
	}
	b.finishPaths(doc)
	b.finishNetwork(doc)
	b.tests(doc.tests)
	b.finishFile(doc)
}

// finishFile checks what no key can check alone.
func (b *builder) finishFile(doc *document) {
	if _, ok := doc.entry("version"); !ok {
		b.errs = append(b.errs, &Error{Source: b.file, Position: Position{1, 1},
			Reason: fmt.Sprintf("version is missing: write version = %d", formatVersion)})
	}
	for _, name := range procfsKeys {
		if e, ok := doc.entry(name); ok {
			b.key = findKey(name)
			b.checkProcfs(e.value)
		}
	}
	access := value{shape: shapeString, text: b.policy.Memory.Access.String()}
	if e, ok := doc.entry("memory.access"); ok {
		access.at = e.value.at
	}
	if _, ok := doc.entry("procfs.system"); !ok {
		b.key = findKey("memory.access")
		b.checkSystem(access)
	}
	b.finishHome()
	b.normalize()
}

// normalize drops what has no effect under the value of memory.access, so that policies
// with the same meaning are equal.
func (b *builder) normalize() {
	p := b.policy
	if p.Memory.Access != policy.AccessDeny {
		p.Procfs.Processes = policy.ProcessesOwn
	}
	if p.Memory.Access == policy.AccessAllow {
		p.Procfs.Write = []policy.ProcfsWrite{policy.WriteComm, policy.WriteOOMScoreAdj}
	}
}

// finishHome refuses a kept home directory without a private home.
func (b *builder) finishHome() {
	if b.policy.Home.Dir != "" && !b.policy.Home.Private {
		b.key = findKey("home.dir")
		b.wrong(value{shape: shapeString, text: b.policy.Home.Dir, at: b.homeAt},
			"has no effect: also write private = true (--private-home)")
	}
}

// finishNetwork refuses a [network] without keys: it looks like "no network", and would be
// "as usual".
func (b *builder) finishNetwork(doc *document) {
	at, written := doc.tables["network"]
	for _, name := range networkKeys {
		if _, given := doc.entry(name); given {
			written = false
		}
	}
	if written {
		b.errs = append(b.errs, &Error{Source: b.file, Position: at, Key: "network",
			Reason: "the table is empty, which restricts nothing: write families = [] for no network at " +
				"all, connect-tcp = [], bind-tcp = [], " +
				`connect-udp = [], bind-udp = [] or unix = [], ` +
				`unix = "all" to lift the restriction of an extended policy, or remove the table`})
	}
}

// checkProcfs refuses a [procfs] key that has no effect under the value of memory.access.
// procfs.write has one under "no-write", which keeps procfs closed to writing.
func (b *builder) checkProcfs(v value) {
	access := b.policy.Memory.Access
	if access == policy.AccessDeny || access == policy.AccessNoWrite && b.key.name == "procfs.write" {
		return
	}
	b.wrong(v, "contradicts memory.access = %q, under which %s has no effect: remove this key, or write "+
		"memory.access = %q",
		access, b.key.name, policy.AccessDeny)
}

// checkSystem refuses a memory.access that opens procfs if a layer below has
// procfs.system = "none", which would be lost.
func (b *builder) checkSystem(access value) {
	if b.policy.Memory.Access != policy.AccessDeny && b.policy.Procfs.System == policy.SystemNone {
		b.wrong(access, "contradicts procfs.system = %q, which cannot be enforced then", policy.SystemNone)
	}
}
