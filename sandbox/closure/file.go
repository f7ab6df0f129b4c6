package closure

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// loaded is an ELF file as the kernel and the loader see it: by its program headers.
// (Package debug/elf wants section headers that are sound, which neither looks at.)
type loaded struct {
	io.ReaderAt
	class    elf.Class
	machine  elf.Machine
	order    binary.ByteOrder
	interp   string
	segments []segment // PT_LOAD
	dynamic  map[elf.DynTag][]uint64
	strings  uint64 // the address of the table
}

type segment struct{ kind, address, offset, size uint64 }

// The most that is read of a file: what a sound one has is far less.
const (
	maxHeaders = 512
	maxDynamic = 1 << 20
	longest    = 4096 // a name or path, with its NUL
)

var errUnsound = errors.New("its headers are corrupt")

// load reads the headers. The error is [errUnsound], or one of reading.
func load(r io.ReaderAt) (*loaded, error) {
	var ident [elf.EI_NIDENT]byte
	if _, err := r.ReadAt(ident[:], 0); err != nil || !bytes.HasPrefix(ident[:], []byte(elf.ELFMAG)) {
		return nil, errUnsound
	}
	f := &loaded{ReaderAt: r, class: elf.Class(ident[elf.EI_CLASS]), order: binary.LittleEndian,
		dynamic: map[elf.DynTag][]uint64{}}
	if elf.Data(ident[elf.EI_DATA]) == elf.ELFDATA2MSB {
		f.order = binary.BigEndian
	}
	headers, err := f.headers()
	if err != nil {
		return nil, err
	}
	for _, h := range headers {
		switch elf.ProgType(h.kind) {
		case elf.PT_LOAD:
			f.segments = append(f.segments, h)
		case elf.PT_INTERP: // the kernel takes it from the file
			if f.interp, err = f.text(h.offset); err != nil {
				return nil, err
			}
		}
	}
	for _, h := range headers {
		if elf.ProgType(h.kind) == elf.PT_DYNAMIC { // the loader takes it from memory
			return f, f.readDynamic(h)
		}
	}
	return f, nil
}

// headers reads the program headers.
func (f *loaded) headers() ([]segment, error) {
	var at, size, count uint64
	if f.class == elf.ELFCLASS64 {
		var h elf.Header64
		if err := f.read(&h, 0); err != nil {
			return nil, err
		}
		f.machine, at, size, count = elf.Machine(h.Machine), h.Phoff, uint64(h.Phentsize), uint64(h.Phnum)
	} else {
		var h elf.Header32
		if err := f.read(&h, 0); err != nil {
			return nil, err
		}
		f.machine, at, size, count = elf.Machine(h.Machine), uint64(h.Phoff), uint64(h.Phentsize), uint64(h.Phnum)
	}
	if count > maxHeaders {
		return nil, errUnsound
	}
	list := make([]segment, 0, count)
	for i := range count {
		var s segment
		if f.class == elf.ELFCLASS64 {
			var p elf.Prog64
			if err := f.read(&p, at+i*size); err != nil {
				return nil, err
			}
			s = segment{uint64(p.Type), p.Vaddr, p.Off, p.Filesz}
		} else {
			var p elf.Prog32
			if err := f.read(&p, at+i*size); err != nil {
				return nil, err
			}
			s = segment{uint64(p.Type), uint64(p.Vaddr), uint64(p.Off), uint64(p.Filesz)}
		}
		list = append(list, s)
	}
	return list, nil
}

func (f *loaded) read(into any, offset uint64) error {
	text := make([]byte, binary.Size(into))
	if int64(offset) < 0 {
		return errUnsound
	}
	if _, err := f.ReadAt(text, int64(offset)); err != nil {
		return errUnsound
	}
	return binary.Read(bytes.NewReader(text), f.order, into)
}

// offset is where the byte lies in the file that is mapped at an address. Of segments
// that overlap the last one is seen.
func (f *loaded) offset(address uint64) (uint64, error) {
	for i := len(f.segments) - 1; i >= 0; i-- {
		if s := f.segments[i]; address >= s.address && address-s.address < s.size {
			return s.offset + (address - s.address), nil
		}
	}
	return 0, fmt.Errorf("nothing is mapped at %#x: %w", address, errUnsound)
}

func (f *loaded) readDynamic(h segment) error {
	at, err := f.offset(h.address)
	if err != nil {
		return err
	}
	for from := at; from-at < maxDynamic; {
		var tag, value uint64
		if f.class == elf.ELFCLASS64 {
			var d elf.Dyn64
			if err := f.read(&d, from); err != nil {
				return err
			}
			tag, value = uint64(d.Tag), d.Val
			from += 16
		} else {
			var d elf.Dyn32
			if err := f.read(&d, from); err != nil {
				return err
			}
			tag, value = uint64(uint32(d.Tag)), uint64(d.Val)
			from += 8
		}
		if elf.DynTag(tag) == elf.DT_NULL {
			if table := f.dynamic[elf.DT_STRTAB]; len(table) > 0 {
				f.strings = table[len(table)-1]
			}
			return nil
		}
		f.dynamic[elf.DynTag(tag)] = append(f.dynamic[elf.DynTag(tag)], value)
	}
	return errUnsound
}

// names are the values of tags that stand for names, in the order of the tags.
func (f *loaded) names(tags ...elf.DynTag) ([]string, error) {
	var list []string
	for _, tag := range tags {
		for _, value := range f.dynamic[tag] {
			at, err := f.offset(f.strings + value)
			if err != nil {
				return nil, err
			}
			name, err := f.text(at)
			if err != nil {
				return nil, err
			}
			list = append(list, name)
		}
	}
	return list, nil
}

// text is what stands at an offset, up to its NUL.
func (f *loaded) text(offset uint64) (string, error) {
	room := make([]byte, longest)
	if int64(offset) < 0 {
		return "", errUnsound
	}
	n, err := f.ReadAt(room, int64(offset))
	if err != nil && err != io.EOF {
		return "", err
	}
	text, _, ended := bytes.Cut(room[:n], []byte{0})
	if !ended {
		return "", errUnsound
	}
	return string(text), nil
}
