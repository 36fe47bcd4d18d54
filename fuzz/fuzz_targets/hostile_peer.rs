#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| shm_fifo_fuzz::hostile_peer::run(data));
