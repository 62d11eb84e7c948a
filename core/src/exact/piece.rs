//! The words of a piece to bytes and back: for each word a symbol and its extra bits, in lanes that a processor can work on side
//! by side (FORMAT.md, "Exact residual").

use super::bits::{self, Fields, Writer as BitWriter};
use super::encoder::Encoder;
use super::words::{Layout, Meaning, low_bits};
use super::{BATCH, Models};
use crate::entropy::tans::{self, Move, Moves, REST, STATE_BITS};
use crate::error::{Error, Result};
use crate::wire::{Reader, Writer};

/// Pieces of fewer words have one lane.
const MANY: usize = 4096;
const LANES: usize = 4;
/// Words of a round of all lanes.
const ROUND: usize = 2 * LANES;
/// Exponents that words have at most, and more than there are in most.
const EXPONENTS: usize = 2048;
const WHAT: &str = "a piece of an exact residual";

/// How many lanes a piece of so many words has.
fn lanes(words: usize) -> usize {
    if words < MANY { 1 } else { LANES }
}

/// Memory to encode in.
#[derive(Default)]
pub(super) struct Scratch {
    lanes: [Vec<u8>; LANES],
}

impl Encoder {
    /// The bytes of one piece.
    pub(super) fn encode<'s, const N: usize>(
        &self,
        prediction: &[[u8; N]],
        words: &[[u8; N]],
        scratch: &'s mut Scratch,
    ) -> Vec<u8> {
        /// Beside the words: the state, and what the bit writer wants.
        const MORE: usize = 16;
        let count = lanes(words.len());
        let size = (words.len() / count + 2) * (N + 2) + MORE;
        let begin = |memory: &'s mut Vec<u8>| {
            memory.resize(memory.len().max(size), 0);
            Back { state: REST, bits: BitWriter::new(memory) }
        };
        let mut lanes: Vec<_> = scratch.lanes.iter_mut().take(count).map(begin).collect();
        let (mut turns, mut differences) = ([0; BATCH], [[0; N]; BATCH]);
        for (prediction, words) in prediction.chunks(BATCH).zip(words.chunks(BATCH)).rev() {
            let turns = &mut turns[..words.len()];
            let (differences, lanes) = (&mut differences[..words.len()], &mut lanes);
            pulp::Arch::new().dispatch(Encode {
                encoder: self,
                prediction,
                words,
                turns,
                differences,
                lanes,
            });
        }
        let end = |Back { state, mut bits }: Back<'s>| {
            bits.put(Fields::default().and(state - REST, STATE_BITS));
            bits.finish()
        };
        let lanes: Vec<&[u8]> = lanes.into_iter().map(end).collect();
        let mut out = Writer::default();
        lanes.iter().take(count - 1).for_each(|lane| out.varint(lane.len() as u64));
        lanes.iter().for_each(|lane| out.0.extend(*lane));
        out.0
    }
}

/// Where the encoder of a lane is.
struct Back<'a> {
    state: u64,
    bits: BitWriter<'a>,
}

/// Puts some words in front of what the lanes have. Compiled for the vector instruction set.
struct Encode<'a, 'b, const N: usize> {
    encoder: &'a Encoder,
    prediction: &'a [[u8; N]],
    words: &'a [[u8; N]],
    turns: &'a mut [u16],
    differences: &'a mut [[u8; N]],
    lanes: &'a mut [Back<'b>],
}

impl<const N: usize> pulp::NullaryFnOnce for Encode<'_, '_, N> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        // Where nothing is left out, which the compiler is to know, there is less to do.
        match self.encoder.turning.layout.dropped {
            0 => self.run::<true>(),
            _ => self.run::<false>(),
        }
    }
}

impl<const N: usize> Encode<'_, '_, N> {
    #[inline(always)]
    fn run<const WHOLE: bool>(self) {
        let Self { encoder, prediction, words, turns, differences, lanes } = self;
        let mut turning = encoder.turning;
        if WHOLE {
            turning.layout.dropped = 0;
        }
        turning.turns(prediction, words, turns);
        for ((difference, &p), &y) in differences.iter_mut().zip(prediction).zip(words) {
            *difference = turning.layout.difference(p, y);
        }
        let steps = BackSteps { layout: turning.layout, models: encoder.models.steps() };
        // Whole rounds of all lanes, where there are several.
        let rounds = if lanes.len() == LANES { turns.len() / ROUND } else { 0 };
        for i in (ROUND * rounds..turns.len()).rev() {
            steps.run(&mut lanes[i / 2 % lanes.len()], &[turns[i]], &[differences[i]]);
        }
        let Some([a, b, c, d]) = lanes.first_chunk_mut() else { return };
        let turns = turns.as_chunks::<2>().0.as_chunks::<LANES>().0;
        let differences = differences.as_chunks::<2>().0.as_chunks::<LANES>().0;
        for (turns, differences) in turns.iter().zip(differences).take(rounds).rev() {
            // One by one: the compiler would make a loop.
            steps.run(a, &turns[0], &differences[0]);
            steps.run(b, &turns[1], &differences[1]);
            steps.run(c, &turns[2], &differences[2]);
            steps.run(d, &turns[3], &differences[3]);
        }
    }
}

/// All that it takes to encode words of one lane.
#[derive(Clone, Copy)]
struct BackSteps<'a> {
    layout: Layout,
    models: tans::Steps<'a>,
}

impl BackSteps<'_> {
    /// Puts some words, two at most, in front of what a lane has.
    #[inline(always)]
    fn run<const N: usize, const M: usize>(
        self,
        Back { state, bits }: &mut Back<'_>,
        turns: &[u16; M],
        differences: &[[u8; N]; M],
    ) {
        let mut fields = Fields::default();
        for i in (0..M).rev() {
            let before = *state;
            let (len, extra_len) = self.models.push(state, turns[i]);
            let extra = self.layout.extra(differences[i], extra_len);
            if N == 8 {
                // More than fields have room for.
                let first = extra_len.min(32);
                bits.put(Fields::default().and(extra >> first, extra_len - first));
                bits.put(Fields::default().and(extra, first));
            } else {
                fields = fields.and(extra, extra_len);
            }
            fields = fields.and(before, len);
            // Two short words are put at once.
            if N > 2 || i == 0 {
                bits.put(std::mem::take(&mut fields));
            }
        }
    }
}

impl Models {
    /// The words of one piece. Errors: Corrupt.
    pub(super) fn decode<const N: usize>(
        &self,
        prediction: &[[u8; N]],
        piece: &[u8],
    ) -> Result<Vec<[u8; N]>> {
        let mut input = Reader(piece);
        let damaged = || Error::corrupt(format!("{WHAT}: it does not end where its words do"));
        let mut all = [Lane::default(); LANES];
        let lanes = &mut all[..lanes(prediction.len())];
        let mut ends = [0; LANES];
        for end in ends.iter_mut().take(lanes.len() - 1) {
            *end = input.varint_to(piece.len() as u64, WHAT)?;
        }
        let bytes = input.0;
        ends[lanes.len() - 1] = bytes.len() - ends.iter().sum::<usize>().min(bytes.len());
        let mut start = 0;
        for (lane, end) in lanes.iter_mut().zip(&mut ends) {
            *end += start;
            let first = bytes.get(start..*end).and_then(bits::start).ok_or_else(damaged)?;
            let at = 8 * start + first;
            let state = low_bits::<4>(bits::window(bytes, at), STATE_BITS) as usize;
            *lane = Lane { state, at: at + STATE_BITS as usize };
            start = *end;
        }
        let mut moves = [&self.decoder.0[0]; EXPONENTS];
        let contexts = moves.iter_mut().zip(&self.of);
        contexts.for_each(|(moves, &context)| *moves = &self.decoder.0[usize::from(context)]);
        let mut words = vec![[0; N]; prediction.len()];
        let (layout, meanings, moves) = (self.layout, &self.meanings, &moves);
        let steps = Steps { layout, meanings, moves, bytes };
        pulp::Arch::new().dispatch(Decode { steps, prediction, lanes: &mut *lanes, words: &mut words });
        match lanes.iter().zip(ends).all(|(lane, end)| lane.state == 0 && lane.at == 8 * end) {
            true => Ok(words),
            false => Err(damaged()),
        }
    }
}

/// Where the decoder of a lane is.
#[derive(Clone, Copy, Default)]
struct Lane {
    state: usize,
    /// The next bit.
    at: usize,
}

/// The words of a piece; moves the lanes to their ends. What comes of a damaged piece has no meaning. Compiled for the vector
/// instruction set, which has better shifts.
struct Decode<'a, const N: usize> {
    steps: Steps<'a>,
    prediction: &'a [[u8; N]],
    lanes: &'a mut [Lane],
    words: &'a mut [[u8; N]],
}

impl<const N: usize> pulp::NullaryFnOnce for Decode<'_, N> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        // Where nothing is left out, which the compiler is to know, there is less to do.
        match self.steps.layout.dropped {
            0 => self.run::<true>(),
            _ => self.run::<false>(),
        }
    }
}

impl<const N: usize> Decode<'_, N> {
    #[inline(always)]
    fn run<const WHOLE: bool>(self) {
        let Self { mut steps, prediction, lanes, words } = self;
        if WHOLE {
            steps.layout.dropped = 0;
        }
        let mut done = 0;
        if let Some(lanes) = lanes.first_chunk_mut() {
            let [mut a, mut b, mut c, mut d] = *lanes;
            let from = prediction.as_chunks::<2>().0.as_chunks::<LANES>().0;
            for (words, p) in words.as_chunks_mut::<2>().0.as_chunks_mut::<LANES>().0.iter_mut().zip(from) {
                // One by one: the compiler would make a loop.
                a = steps.run(a, &p[0], &mut words[0]);
                b = steps.run(b, &p[1], &mut words[1]);
                c = steps.run(c, &p[2], &mut words[2]);
                d = steps.run(d, &p[3], &mut words[3]);
            }
            *lanes = [a, b, c, d];
            done = ROUND * from.len();
        }
        for (i, (word, p)) in words.iter_mut().zip(prediction).enumerate().skip(done) {
            let lane = &mut lanes[i / 2 % lanes.len()];
            *lane = steps.run(*lane, std::array::from_ref(p), std::array::from_mut(word));
        }
    }
}

/// All that it takes to decode words of one lane.
#[derive(Clone, Copy)]
struct Steps<'a> {
    layout: Layout,
    meanings: &'a [Meaning; 256],
    /// Those of each exponent.
    moves: &'a [&'a Moves; EXPONENTS],
    bytes: &'a [u8],
}

impl Steps<'_> {
    /// The next words of a lane, two at most.
    #[inline(always)]
    fn run<const N: usize, const M: usize>(
        self,
        Lane { mut state, mut at }: Lane,
        prediction: &[[u8; N]; M],
        words: &mut [[u8; N]; M],
    ) -> Lane {
        let Self { layout, meanings, moves, bytes } = self;
        let mut window = bits::window(bytes, at);
        for i in 0..M {
            // Two short words are in one window.
            if i > 0 && N > 2 {
                window = bits::window(bytes, at);
            }
            let next = Move::of(moves[layout.exponent(prediction[i]) as usize % EXPONENTS], state);
            let len = u32::from(next.extra);
            state = next.next(window);
            at += usize::from(next.bits);
            window >>= next.bits;
            let (base, extra) = if N == 8 {
                let first = len.min(32);
                let low = low_bits::<8>(bits::window(bytes, at), first);
                let high = low_bits::<8>(bits::window(bytes, at + first as usize), len - first);
                (meanings[next.base as usize % 256].base, low | high << first)
            } else {
                (next.base.into(), low_bits::<N>(window, len))
            };
            words[i] = layout.join(prediction[i], base, len, extra);
            at += len as usize;
            if N < 8 {
                window >>= len;
            }
        }
        Lane { state, at }
    }
}
