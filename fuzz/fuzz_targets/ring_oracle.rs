#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| shm_fifo_fuzz::ring_oracle::run(data));
