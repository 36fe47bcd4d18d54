package shmfifo

import (
	"os"
	"regexp"
	"strconv"
	"testing"
)

func TestTheOffsetsAreThoseOfTheDocument(t *testing.T) {
	page, err := os.ReadFile("../../docs/layout.md")
	if err != nil {
		t.Fatal(err)
	}
	inPage := map[string]int{}
	for _, row := range regexp.MustCompile("(?m)^\\| (\\d+) \\|[^|]*\\|[^|]*\\| `(\\w+)`").FindAllStringSubmatch(string(page), -1) {
		inPage[row[2]], _ = strconv.Atoi(row[1])
	}
	for name, offset := range map[string]int{
		"magic": magicAt, "layout_version": layoutVersionAt, "ring_bytes": ringBytesAt, "token": tokenAt,
		"to_creator_header": toCreatorHeaderAt, "to_attacher_header": toAttacherHeaderAt, "to_creator_ring": ringsAt,
		"tail": tailAt, "producer_closed": producerClosedAt, "head": headAt, "consumer_closed": consumerClosedAt,
		"consumer_parked": consumerParkedAt, "consumer_cpu": consumerCPUAt,
		"producer_parked": producerParkedAt, "producer_cpu": producerCPUAt,
	} {
		if at, isThere := inPage[name]; !isThere || at != offset {
			t.Errorf("%s is at %d in the page (there: %v), at %d here", name, at, isThere, offset)
		}
	}
}
