package rootfs

import "bytes"

// dynamicEntry is a DT_* of the dynamic section whose value is a place in the
// string table.
type dynamicEntry struct {
	tag, value uint64
}

// readDynamic reads the dynamic section and the strings that it refers to.
func (f *elfFile) readDynamic(s elfSegment, e *ELF) error {
	// The loader reads the section where it is in memory, whatever p_offset
	// says; so does this, lest a crafted file show two faces.
	off, size := s.off, s.size
	if at, rest, ok := f.offset(s.vaddr); ok {
		off, size = at, min(size, rest)
	}
	if size > maxDynamicBytes {
		return badELF("a dynamic section of %d bytes", size)
	}
	section, err := f.at(off, size-size%elfDynSize64)
	if err != nil {
		return err
	}
	var texts []dynamicEntry
	var table, tableSize uint64
	for ; len(section) > 0; section = section[elfDynSize64:] {
		d := dynamicEntry{f.order.Uint64(section), f.order.Uint64(section[8:])}
		switch d.tag {
		case dtNull:
			section = section[:elfDynSize64] // the end
		case dtNeeded, dtSoName, dtRPath, dtRunPath:
			texts = append(texts, d)
		case dtStrTab:
			table = d.value
		case dtStrSize:
			tableSize = d.value
		case dtFlags1:
			e.NoDefaultLibs = d.value&df1NoDefaultLibs != 0
			e.PIE = d.value&df1Pie != 0
		}
	}
	if len(texts) == 0 {
		return nil
	}
	if len(texts) > maxELFTexts {
		return badELF("%d names of libraries", len(texts))
	}
	at, rest, ok := f.offset(table)
	if !ok {
		return badELF("the string table lies outside of the file")
	}
	return f.readTexts(texts, stringTableAt{off: at, size: min(tableSize, rest)}, e)
}

// readTexts looks the entries up in the string table.
func (f *elfFile) readTexts(texts []dynamicEntry, table stringTableAt, e *ELF) error {
	if table.size <= strTabAtOnce {
		var err error
		if table.whole, err = f.at(table.off, table.size); err != nil {
			return err
		}
	}
	for _, d := range texts {
		text, err := f.text(table, d.value)
		if err != nil {
			return err
		}
		switch d.tag {
		case dtNeeded:
			e.Needed = append(e.Needed, text)
		case dtSoName:
			e.SoName = text
		case dtRPath:
			e.RPath = text
		case dtRunPath:
			e.RunPath = text
		}
	}
	return nil
}

// stringTableAt is where the dynamic string table is; whole is its content when
// it is small. That of a large C++ library has megabytes, of which a few names
// are wanted.
type stringTableAt struct {
	off, size uint64
	whole     []byte
}

// text returns the string at an offset of the table.
func (f *elfFile) text(table stringTableAt, at uint64) (string, error) {
	if at >= table.size {
		return "", badELF("a name lies outside of the string table")
	}
	for window := uint64(128); ; window *= 4 {
		part, last := table.whole, true
		if part != nil {
			part = part[at:]
		} else {
			n := min(window, table.size-at)
			last = n == table.size-at
			var err error
			if part, err = f.at(table.off+at, n); err != nil {
				return "", err
			}
		}
		if end := bytes.IndexByte(part, 0); end >= 0 && end <= maxELFString {
			return string(part[:end]), nil
		}
		if last || window > maxELFString {
			return "", badELF("a name has no end within %d bytes", maxELFString)
		}
	}
}
