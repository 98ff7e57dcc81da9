//! Evidence from the emulated platform, from real processors and from forgers, through the whole verifier.

mod accept;
mod emulated;
