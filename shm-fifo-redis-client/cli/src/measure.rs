//! What measures at length, and draws it: `bench` and `report`. Behind the feature
//! `measure`, which a third of the dependencies are for; nothing outside needs it but the demo,
//! for its picture.

pub(crate) mod bench;
mod children;
pub(crate) mod place;
pub(crate) mod plot;
pub(crate) mod publish;

/// `1 round`, `5 rounds`.
pub(crate) fn rounds(number: u64) -> String {
    format!("{number} round{}", if number == 1 { "" } else { "s" })
}
