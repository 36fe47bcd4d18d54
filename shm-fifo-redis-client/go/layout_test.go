package shmfifo

import (
	"os"
	"regexp"
	"strconv"
	"testing"
)

// inTable is the numbers in the rows of docs/layout.md that have this form, by their names.
func inTable(t *testing.T, form string) map[string]uint64 {
	t.Helper()
	page, err := os.ReadFile("../../docs/layout.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^" + form)
	numbers := map[string]uint64{}
	for _, match := range row.FindAllStringSubmatch(string(page), -1) {
		number, err := strconv.ParseUint(match[row.SubexpIndex("number")], 0, 64)
		if err != nil {
			t.Fatal(err)
		}
		numbers[match[row.SubexpIndex("name")]] = number
	}
	return numbers
}

// compare looks whether the page and this package have the same; where a row has no number here
// it says why.
func compare(t *testing.T, inPage map[string]uint64, here map[string]uint64, hasNone map[string]string) {
	t.Helper()
	for name, number := range here {
		if inPage[name] != number {
			t.Errorf("%s is %d in the page, and %d here", name, inPage[name], number)
		}
	}
	for name := range inPage {
		_, isHere := here[name]
		_, isLeftOut := hasNone[name]
		if isHere == isLeftOut {
			t.Errorf("%s is in the page: here it is to be compared, or left out", name)
		}
	}
}

func TestTheOffsetsAreThoseOfTheDocument(t *testing.T) {
	inPage := inTable(t, "\\| (?P<number>\\d+) \\|[^|]*\\|[^|]*\\| `(?P<name>\\w+)`")
	const stored = "this client stores no message inline, and reads them in the ring"
	compare(t, inPage, map[string]uint64{
		"magic": magicAt, "layout_version": layoutVersionAt, "ring_bytes": ringBytesAt, "token": tokenAt,
		"to_creator_header": toCreatorHeaderAt, "to_attacher_header": toAttacherHeaderAt, "to_creator_ring": ringsAt,
		"tail": tailAt, "producer_closed": producerClosedAt, "head": headAt, "consumer_closed": consumerClosedAt,
		"consumer_parked": consumerParkedAt, "consumer_cpu": consumerCPUAt,
		"producer_parked": producerParkedAt, "producer_cpu": producerCPUAt,
	}, map[string]string{
		"inline_key": stored, "inline_words": stored, "producer_leaves": "this client never leaves",
	})
}

func TestTheNumbersAreThoseOfTheDocument(t *testing.T) {
	inPage := inTable(t, "\\| `(?P<name>[A-Z_]+)` \\| (?P<number>\\w+) \\|")
	const stored = "this client stores no message inline, and reads them in the ring"
	compare(t, inPage, map[string]uint64{
		"MAGIC": magic, "LAYOUT_VERSION": layoutVersion, "RING_BYTES_MIN": minRingBytes,
		"RING_BYTES_MAX": maxRingBytes, "TOKEN_DIGITS": 2 * tokenBytes, "DOORBELL": doorbell,
		"PROTOCOL_VERSION": protocolVersion,
	}, map[string]string{
		"INLINE_BYTES": stored, "KEY_FACTOR": stored, "LEAVE": "this client never leaves",
	})
}
