package shmfifo

import (
	"errors"
	"strings"
)

var errNoReply = errors.New("shmfifo: what the server sent is no reply")

// Far beyond what Redis sends: a value that claims more is none.
const (
	maxElements = 1 << 32
	maxBulk     = 1 << 40
	maxHeader   = 32
)

// replyScanner finds the ends of replies in the server's bytes, however they are cut, in
// RESP2 and RESP3. It keeps none of them but a header line that has begun.
type replyScanner struct {
	open   int64  // values that the outermost one still lacks; 0 between two replies
	skip   int64  // bytes of a bulk, with its CRLF, that are still to come
	header []byte // the beginning of a line
	line   byte   // the type of that line; 0 if none has begun
	within bool   // the outermost value's own header has ended
}

// isBetween says whether the next byte begins a reply.
func (s *replyScanner) isBetween() bool {
	return s.open == 0
}

// next takes from bytes up to the end of one outermost value at most. It says how many it
// took, and whether the value ended there.
func (s *replyScanner) next(bytes []byte) (taken int, ended bool, err error) {
	if s.open == 0 && len(bytes) > 0 {
		s.open, s.within = 1, false
	}
	for taken < len(bytes) {
		if s.skip > 0 {
			part := int64(len(bytes) - taken)
			if part > s.skip {
				part = s.skip
			}
			s.skip -= part
			taken += int(part)
			if s.skip == 0 {
				s.open--
			}
		} else {
			b := bytes[taken]
			taken++
			if err := s.headerByte(b); err != nil {
				return taken, false, err
			}
		}
		if s.open == 0 {
			return taken, true, nil
		}
	}
	return taken, false, nil
}

// headerByte takes a byte of a line: a whole value, or the header of one.
func (s *replyScanner) headerByte(b byte) error {
	switch {
	case s.line == 0:
		if strings.IndexByte("+-:,#(_$=!*~>%|", b) < 0 {
			return errNoReply
		}
		s.line = b
		s.header = s.header[:0]
	case b == '\n':
		return s.headerEnd()
	case len(s.header) < maxHeader:
		s.header = append(s.header, b)
	}
	return nil
}

// headerEnd is told that the line is whole.
func (s *replyScanner) headerEnd() error {
	kind, outermost := s.line, !s.within
	s.line, s.within = 0, true
	switch kind {
	case '+', '-', ':', ',', '#', '(', '_':
		s.open--
		return nil
	case '$', '=', '!':
		return s.bulk()
	case '*', '~', '>':
		return s.elements(1, -1)
	case '%':
		return s.elements(2, -1)
	case '|':
		// Attributes stand before a value. Before an outermost one they are one as well, so
		// that whoever counts replies sees what they are; within one they are more of it.
		if outermost {
			return s.elements(2, -1)
		}
		return s.elements(2, 0)
	}
	return errNoReply
}

func (s *replyScanner) bulk() error {
	length, ok := number(s.header)
	switch {
	case !ok || length > maxBulk:
		return errNoReply
	case length < 0:
		s.open--
	default:
		s.skip = length + 2
	}
	return nil
}

// elements opens an aggregate, in place of which so many values for each counted one follow.
func (s *replyScanner) elements(each, own int64) error {
	count, ok := number(s.header)
	if !ok || count > maxElements {
		return errNoReply
	}
	if count < 0 {
		count = 0
	}
	s.open += own + each*count
	if s.open > maxElements {
		return errNoReply
	}
	return nil
}

// number reads a header's decimal number, and the CR behind it.
func number(header []byte) (int64, bool) {
	if n := len(header); n > 0 && header[n-1] == '\r' {
		header = header[:n-1]
	}
	if string(header) == "-1" {
		return -1, true
	}
	if len(header) == 0 || len(header) > 15 {
		return 0, false
	}
	value := int64(0)
	for _, digit := range header {
		if digit < '0' || digit > '9' {
			return 0, false
		}
		value = 10*value + int64(digit-'0')
	}
	return value, true
}
