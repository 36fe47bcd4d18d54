package shmfifo

import "errors"

var errNoRequest = errors.New("shmfifo: the program does not send its requests as arrays of strings")

// maxWord is how much of a request's first two words is kept.
const maxWord = 16

// request is what a command was, as far as it matters here, in capital letters.
type request struct {
	name string
	word string // the first argument
}

// requestScanner finds the requests in the program's bytes, however they are cut.
type requestScanner struct {
	open   int64 // arguments that still lack; 0 between two requests
	skip   int64 // bytes of an argument, with its CRLF, that are still to come
	header []byte
	inLine bool
	seen   int       // arguments that have begun
	words  [2][]byte // the beginnings of the first ones
}

// isBetween says whether the next byte begins a request.
func (s *requestScanner) isBetween() bool {
	return s.open == 0 && !s.inLine
}

// next takes from bytes up to the end of one request at most. It says how many it took, and
// whether the request ended there.
func (s *requestScanner) next(bytes []byte) (taken int, ended bool, err error) {
	for taken < len(bytes) {
		if s.skip > 0 {
			part := int64(len(bytes) - taken)
			if part > s.skip {
				part = s.skip
			}
			s.keep(bytes[taken : taken+int(part)])
			s.skip -= part
			taken += int(part)
			if s.skip > 0 {
				continue
			}
			s.open--
		} else {
			b := bytes[taken]
			taken++
			if err := s.headerByte(b); err != nil {
				return taken, false, err
			}
			if b != '\n' {
				continue
			}
		}
		if s.isBetween() {
			return taken, true, nil
		}
	}
	return taken, false, nil
}

// request is the last one that ended.
func (s *requestScanner) request() request {
	return request{word(s.words[0]), word(s.words[1])}
}

func (s *requestScanner) headerByte(b byte) error {
	if !s.inLine {
		if s.open == 0 && b != '*' || s.open > 0 && b != '$' {
			return errNoRequest
		}
		s.inLine = true
		s.header = s.header[:0]
	}
	if b != '\n' {
		if len(s.header) == maxHeader {
			return errNoRequest
		}
		s.header = append(s.header, b)
		return nil
	}
	s.inLine = false
	count, ok := number(s.header[1:])
	if !ok || count < 0 || count > maxBulk {
		return errNoRequest
	}
	if s.open > 0 {
		s.seen++
		s.skip = count + 2
		return nil
	}
	s.open = count
	s.seen = 0
	s.words[0], s.words[1] = s.words[0][:0], s.words[1][:0]
	return nil
}

// keep remembers the beginning of the first two arguments.
func (s *requestScanner) keep(part []byte) {
	if s.seen > len(s.words) {
		return
	}
	kept := &s.words[s.seen-1]
	if room := maxWord + 2 - len(*kept); len(part) > room {
		part = part[:room]
	}
	*kept = append(*kept, part...)
}

// word is an argument in capital letters, without its CRLF.
func word(bytes []byte) string {
	upper := make([]byte, 0, maxWord)
	for _, b := range bytes {
		switch {
		case b == '\r':
			return string(upper)
		case b >= 'a' && b <= 'z':
			b -= 'a' - 'A'
		}
		upper = append(upper, b)
	}
	return string(upper)
}
