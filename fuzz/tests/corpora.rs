//! Replays the committed corpora: what fuzzing once found, and seeds.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

/// Some targets count what the process holds: only one at a time may run.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn every_committed_input_still_passes() {
    let _alone = ALONE.lock();
    for (name, run) in shm_fifo_fuzz::TARGETS {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let mut inputs = 0;
        for entry in fs::read_dir(&directory).expect("each target has a corpus") {
            let path = entry.expect("a directory entry").path();
            // Shown if it fails.
            println!("{}", path.display());
            run(&fs::read(&path).expect("a file"));
            inputs += 1;
        }
        assert_ne!(inputs, 0, "{name} has no inputs");
    }
}

#[test]
fn the_empty_input_and_long_ones_are_inputs_too() {
    let _alone = ALONE.lock();
    for (name, run) in shm_fifo_fuzz::TARGETS {
        println!("{name}");
        run(&[]);
        (0..=u8::MAX).step_by(15).for_each(|byte| run(&[byte; 600]));
    }
}
