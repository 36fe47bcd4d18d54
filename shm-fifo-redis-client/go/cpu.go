package shmfifo

// place compares the CPU of one side of a connection with that of the server, which each
// tells the other when it waits: who has the server's own CPU must not spin for it.
type place struct {
	own  [2]word32 // where the server looks for this side's, plus one
	peer word32    // where the server says its own, plus one; 0 is unknown
	told uint32
}

// ofReader is where the CPU is told of who waits for data.
func ofReader(out *producer, in *consumer) place {
	return place{own: [2]word32{in.cpu, out.cpu}, peer: in.producerCPU}
}

// ofWriter is where it is told of who waits for space.
func ofWriter(out *producer, in *consumer) place {
	return place{own: [2]word32{in.cpu, out.cpu}, peer: out.consumerCPU}
}

// isShared says whether this side runs where the server waited last. Both are hints.
func (p *place) isShared() bool {
	cpu := currentCPU() + 1
	if cpu != p.told {
		p.told = cpu
		for _, word := range p.own {
			word.store(cpu)
		}
	}
	return cpu == p.peer.load()
}
