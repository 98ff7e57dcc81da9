//! How messages become bytes: as prost has them, with buffers of the size that most messages have.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::ProstCodec;

/// The first buffer of a message that comes in: a request for a token takes 150 bytes.
const FIRST_IN_BYTES: usize = 512;

/// The first buffer of one that goes out: a token with its receipt takes a kilobyte.
const FIRST_OUT_BYTES: usize = 1024;

/// A stream's messages are sent together up to so many bytes, as by tonic itself.
const YIELD_BYTES: usize = 32 * 1024;

/// tonic's own codec begins with 8 KiB for either, which are seldom used and cost as much as what is: they push other
/// things out of a processor's cache, and are overwritten when they are given back. Longer messages make a buffer grow.
#[derive(Debug)]
pub struct SmallFirst<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for SmallFirst<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for SmallFirst<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as Codec>::Encoder;
    type Decoder = <ProstCodec<T, U> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(FIRST_OUT_BYTES, YIELD_BYTES))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(FIRST_IN_BYTES, YIELD_BYTES))
    }
}
