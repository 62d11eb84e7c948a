//! Bytes, bits, entropy models and lists of integers.

/// Takes values off the front of some bytes.
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    pub fn take(&mut self, n: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(n);
        self.0 = tail;
        head
    }

    pub fn u8(&mut self) -> u8 {
        self.take(1)[0]
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().unwrap())
    }

    pub fn f32(&mut self) -> f32 {
        f32::from_le_bytes(self.take(4).try_into().unwrap())
    }

    pub fn varint(&mut self) -> u64 {
        let byte = self.u8();
        let low = u64::from(byte & 0x7f);
        if byte < 0x80 { low } else { low | self.varint() << 7 }
    }

    pub fn bytes(&mut self) -> &'a [u8] {
        let n = self.varint() as usize;
        self.take(n)
    }
}

/// Takes bits off the front of some bytes, the lowest of a byte first.
pub struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn bit(&mut self) -> u64 {
        let bit = self.bytes[self.at / 8] >> (self.at % 8) & 1;
        self.at += 1;
        bit.into()
    }

    pub fn take(&mut self, n: u32) -> u64 {
        (0..n).map(|i| self.bit() << i).sum()
    }

    fn gamma(&mut self) -> u64 {
        let mut n = 0;
        while self.bit() == 0 {
            n += 1;
        }
        1 << n | self.take(n)
    }

    /// Bytes used so far.
    pub fn used(&self) -> usize {
        self.at.div_ceil(8)
    }
}

/// How the symbols of one context are stored.
pub enum Model {
    Constant(u8),
    Packed(u32),
    Rans([u32; 256]),
    Pairs([u32; 256]),
}

pub fn read_model(input: &mut Bytes<'_>) -> Model {
    match input.u8() {
        0 => Model::Constant(input.u8()),
        width @ 1..=8 => Model::Packed(width.into()),
        9 => Model::Rans(read_frequencies(input, 4096)),
        10 => Model::Pairs(read_frequencies(input, 4096)),
        tag => panic!("model {tag}"),
    }
}

/// The frequencies of the 256 symbols, which add up to `scale`.
pub fn read_frequencies(input: &mut Bytes<'_>, scale: u32) -> [u32; 256] {
    let mut bits = Bits::new(input.0);
    let precision = bits.take(4) as u32;
    let (rest, last) = (bits.take(8) as usize, bits.take(8) as usize);
    let mut frequencies = [0; 256];
    let mut class = 8i64;
    let mut zeros = 0;
    for symbol in (0..=last).filter(|&s| s != rest) {
        if zeros > 0 {
            zeros -= 1;
            continue;
        }
        let zigzag = match bits.gamma() {
            4 => {
                zeros = bits.gamma() - 1;
                continue;
            }
            v @ 1..4 => v - 1,
            v => v - 2,
        };
        class += if zigzag % 2 == 0 { (zigzag / 2) as i64 } else { -(zigzag.div_ceil(2) as i64) };
        let c = class as u32;
        let kept = precision.min(c - 1);
        frequencies[symbol] = (1 << (c - 1)) + ((bits.take(kept) as u32) << (c - 1 - kept));
    }
    frequencies[rest] = scale - frequencies.iter().sum::<u32>();
    input.take(bits.used());
    frequencies
}

impl Model {
    /// The `count` symbols of one stream.
    pub fn decode(&self, stream: &[u8], count: usize) -> Vec<u8> {
        match self {
            Self::Constant(symbol) => {
                assert!(stream.is_empty());
                vec![*symbol; count]
            }
            Self::Packed(width) => {
                let mut bits = Bits::new(stream);
                let symbols = (0..count).map(|_| bits.take(*width) as u8).collect();
                assert_eq!(bits.used(), stream.len());
                symbols
            }
            Self::Rans(frequencies) => rans(frequencies, stream, count),
            Self::Pairs(frequencies) => {
                let pairs = rans(frequencies, stream, count.div_ceil(2));
                pairs.into_iter().flat_map(|pair| [pair & 15, pair >> 4]).take(count).collect()
            }
        }
    }

    /// Bytes of a stream, where they follow from the number of symbols.
    fn stream_len(&self, count: usize) -> Option<usize> {
        match self {
            Self::Constant(_) => Some(0),
            Self::Packed(width) => Some((count * *width as usize).div_ceil(8)),
            _ => None,
        }
    }
}

fn rans(frequencies: &[u32; 256], stream: &[u8], count: usize) -> Vec<u8> {
    let lanes = if count < 4096 { 1 } else { 4 };
    let (states, words) = if lanes == 1 {
        let len = stream.len().min(4 - stream.len() % 2);
        let mut state = [0; 4];
        state[..len].copy_from_slice(&stream[..len]);
        (vec![u32::from_le_bytes(state)], &stream[len..])
    } else {
        (stream[..16].chunks(4).map(|s| u32::from_le_bytes(s.try_into().unwrap())).collect(), &stream[16..])
    };
    let mut states: Vec<u32> = states;
    let mut words = words.chunks(2).map(|w| u32::from(u16::from_le_bytes(w.try_into().unwrap())));
    let mut symbols = Vec::with_capacity(count);
    for i in 0..count {
        let x = &mut states[i % lanes];
        let slot = *x % 4096;
        let (mut symbol, mut start) = (0, 0);
        while slot >= start + frequencies[symbol] {
            start += frequencies[symbol];
            symbol += 1;
        }
        *x = frequencies[symbol] * (*x / 4096) + slot - start;
        if *x < 1 << 16
            && let Some(word) = words.next()
        {
            *x = *x << 16 | word;
        }
        symbols.push(symbol as u8);
    }
    assert!(words.next().is_none() && states.iter().all(|&x| x == if lanes == 1 { 255 } else { 1 << 16 }));
    symbols
}

/// The value of a token and its extra bits.
pub fn join(token: u8, extra: &mut Bits<'_>) -> i64 {
    let unsigned = match token {
        0..16 => u64::from(token),
        _ => {
            let n = 4 + u32::from(token - 16) / 2;
            (1 << n) + (u64::from(token % 2) << (n - 1)) + extra.take(n - 1)
        }
    };
    if unsigned % 2 == 0 { (unsigned / 2) as i64 } else { -((unsigned / 2) as i64) - 1 }
}

/// A list of `count` integers.
pub fn ints(input: &mut Bytes<'_>, count: usize) -> Vec<i64> {
    if count == 0 {
        return Vec::new();
    }
    let model = read_model(input);
    let stream = match model.stream_len(count) {
        Some(len) => input.take(len),
        None => input.bytes(),
    };
    let tokens = model.decode(stream, count);
    let mut extra = Bits::new(input.0);
    let values = tokens.into_iter().map(|token| join(token, &mut extra)).collect();
    input.take(extra.used());
    values
}
