package shmfifo

// The region and its FIFO headers, byte for byte: docs/layout.md.
const (
	magic         = 0x004f_4649_464d_4853 // the bytes SHMFIFO and a zero
	layoutVersion = 2

	minRingBytes = 4 << 10
	maxRingBytes = 1 << 30

	magicAt            = 0
	layoutVersionAt    = 8
	ringBytesAt        = 16
	tokenAt            = 24
	tokenBytes         = 16
	toCreatorHeaderAt  = 1024
	toAttacherHeaderAt = 1536
	ringsAt            = 4096
)

// Of one FIFO header, from its own start.
const (
	tailAt           = 56
	producerClosedAt = 64
	headAt           = 128
	consumerClosedAt = 136
	consumerParkedAt = 256
	consumerCPUAt    = 260
	producerParkedAt = 384
	producerCPUAt    = 388
)

// regionBytes is the size of the file that has rings of so many bytes.
func regionBytes(ringBytes uint64) uint64 {
	return ringsAt + 2*ringBytes
}

// isRingSize says whether a ring may have so many bytes.
func isRingSize(bytes uint64) bool {
	return bytes >= minRingBytes && bytes <= maxRingBytes && bytes&(bytes-1) == 0
}
