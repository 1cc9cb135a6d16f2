//! Frames: one listing body, compressed once at the edge and moved as it is by everybody below.
//!
//! ```text
//! [format u8 = 1][dictionary id u32 LE, 0 = none][raw length u32 LE][zstd frame]
//! ```
//! The zstd frame carries neither content size nor dictionary id (the head has them), but its
//! checksum: the edge that decompresses is the first that would notice a damaged body.

use std::collections::BTreeMap;
use std::sync::Arc;

use zstd::zstd_safe::{CCtx, CParameter, DCtx, DDict, compress_bound, get_error_name};

use crate::listing::LISTING_BYTES_MAX;

/// Bytes of a frame before the zstd frame.
pub const FRAME_HEAD_BYTES: usize = 9;
/// Compression levels that are worth their time for listings. With a dictionary 3 takes no longer
/// than 1 and gives a fifth less; without one 1 is a quarter faster than 3 and gives as much.
pub const LEVELS: std::ops::RangeInclusive<i32> = 1..=3;
/// Size of a trained dictionary, in bytes.
pub const DICTIONARY_BYTES: usize = 64 << 10;
/// Fewest listings to train a dictionary from.
pub const SAMPLES_MIN: usize = 1_000;
/// Fewest bytes to train a dictionary from: a hundred times the dictionary, as zstd advises.
pub const SAMPLE_BYTES_MIN: usize = 100 * DICTIONARY_BYTES;

const FORMAT_ZSTD: u8 = 1;

/// Why bytes are no readable frame, or a dictionary is no dictionary.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Shorter than its head.
    #[error("frame has {bytes} bytes, its head alone has {FRAME_HEAD_BYTES}")]
    Truncated {
        /// Bytes found.
        bytes: usize,
    },
    /// A format of another build.
    #[error("frame has the unknown format {found}")]
    Format {
        /// Format found.
        found: u8,
    },
    /// More than any listing may have; checked before memory is asked for.
    #[error("frame claims {bytes} raw bytes, the limit is {LISTING_BYTES_MAX}")]
    TooLarge {
        /// Raw length found.
        bytes: usize,
    },
    /// Its dictionary was not given to this decompressor: fetch it and try again.
    #[error("frame needs the dictionary {id}, which is not loaded")]
    MissingDictionary {
        /// The dictionary.
        id: u32,
    },
    /// zstd cannot read it, or what it read has another length.
    #[error("frame is damaged: {reason}")]
    Damaged {
        /// What is wrong with it.
        reason: String,
    },
    /// zstd refuses to work, for instance without memory.
    #[error("compression failed: {reason}")]
    Zstd {
        /// What zstd says.
        reason: &'static str,
    },
    /// The id 0 means "no dictionary".
    #[error("a dictionary cannot have the id 0")]
    DictionaryId,
}

/// What stands before the compressed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// The dictionary that was used, 0 for none.
    pub dictionary: u32,
    /// Bytes of the listing before compression.
    pub raw_bytes: u32,
}

impl FrameHead {
    /// Splits a frame into its head and the zstd frame; checks format and raw length.
    pub fn parse(frame: &[u8]) -> Result<(FrameHead, &[u8]), FrameError> {
        let Some((head, compressed)) = frame.split_first_chunk::<FRAME_HEAD_BYTES>() else {
            return Err(FrameError::Truncated { bytes: frame.len() });
        };
        let [format, d0, d1, d2, d3, r0, r1, r2, r3] = *head;
        if format != FORMAT_ZSTD {
            return Err(FrameError::Format { found: format });
        }
        let raw_bytes = u32::from_le_bytes([r0, r1, r2, r3]);
        if raw_bytes as usize > LISTING_BYTES_MAX {
            return Err(FrameError::TooLarge { bytes: raw_bytes as usize });
        }
        let dictionary = u32::from_le_bytes([d0, d1, d2, d3]);
        Ok((FrameHead { dictionary, raw_bytes }, compressed))
    }
}

/// One trained dictionary, prepared once and shared by all compressors and decompressors.
pub struct Dictionary {
    id: u32,
    bytes: Vec<u8>,
    decoder: DDict<'static>,
}

impl Dictionary {
    /// Prepares `bytes` under the `id` that the system shard gave them, never 0.
    pub fn try_new(id: u32, bytes: Vec<u8>) -> Result<Arc<Dictionary>, FrameError> {
        if id == 0 {
            return Err(FrameError::DictionaryId);
        }
        let decoder = DDict::try_create(&bytes)
            .ok_or(FrameError::Zstd { reason: "the dictionary cannot be prepared" })?;
        Ok(Arc::new(Dictionary { id, bytes, decoder }))
    }

    /// Its id, never 0.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Its bytes, as trained.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl std::fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dictionary")
            .field("id", &self.id)
            .field("bytes", &self.bytes.len())
            .finish()
    }
}

/// Makes frames. Keeps its zstd context (some hundred KiB) from one to the next: one a worker.
pub struct Compressor {
    context: CCtx<'static>,
    dictionary: u32,
}

impl Compressor {
    /// A compressor of a level within [`LEVELS`] (else the nearest), with or without dictionary.
    pub fn try_new(level: i32, dictionary: Option<&Dictionary>) -> Result<Compressor, FrameError> {
        let mut context =
            CCtx::try_create().ok_or(FrameError::Zstd { reason: "no memory for a context" })?;
        let parameters = [
            CParameter::CompressionLevel(level.clamp(*LEVELS.start(), *LEVELS.end())),
            CParameter::ContentSizeFlag(false),
            CParameter::DictIdFlag(false),
            CParameter::ChecksumFlag(true),
        ];
        for parameter in parameters {
            context.set_parameter(parameter).map_err(zstd_error)?;
        }
        if let Some(dictionary) = dictionary {
            context.load_dictionary(&dictionary.bytes).map_err(zstd_error)?;
        }
        Ok(Compressor { context, dictionary: dictionary.map_or(0, |d| d.id) })
    }

    /// The dictionary in use, 0 for none.
    pub fn dictionary(&self) -> u32 {
        self.dictionary
    }

    /// Compresses one minified listing of at most 1 MiB into a frame.
    pub fn compress(&mut self, raw: &[u8]) -> Result<Vec<u8>, FrameError> {
        if raw.len() > LISTING_BYTES_MAX {
            return Err(FrameError::TooLarge { bytes: raw.len() });
        }
        let mut frame = vec![0; FRAME_HEAD_BYTES + compress_bound(raw.len())];
        frame[0] = FORMAT_ZSTD;
        frame[1..5].copy_from_slice(&self.dictionary.to_le_bytes());
        frame[5..FRAME_HEAD_BYTES].copy_from_slice(&(raw.len() as u32).to_le_bytes());
        let written =
            self.context.compress2(&mut frame[FRAME_HEAD_BYTES..], raw).map_err(zstd_error)?;
        frame.truncate(FRAME_HEAD_BYTES + written);
        // Frames wait in batches: they should not hold the bound's memory.
        frame.shrink_to_fit();
        Ok(frame)
    }
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor").field("dictionary", &self.dictionary).finish_non_exhaustive()
    }
}

/// Reads frames of any dictionary that it was given. Keeps its zstd context: one a worker.
pub struct Decompressor {
    context: DCtx<'static>,
    dictionaries: BTreeMap<u32, Arc<Dictionary>>,
}

impl Decompressor {
    /// A decompressor without dictionaries.
    pub fn try_new() -> Result<Decompressor, FrameError> {
        let context =
            DCtx::try_create().ok_or(FrameError::Zstd { reason: "no memory for a context" })?;
        Ok(Decompressor { context, dictionaries: BTreeMap::new() })
    }

    /// Adds a dictionary; one that is known stays as it is, because ids are never reused.
    pub fn add(&mut self, dictionary: Arc<Dictionary>) {
        self.dictionaries.entry(dictionary.id).or_insert(dictionary);
    }

    /// Whether frames of this dictionary can be read; always so for 0.
    pub fn knows(&self, dictionary: u32) -> bool {
        dictionary == 0 || self.dictionaries.contains_key(&dictionary)
    }

    /// Appends the minified listing in `frame` to `out`; on an error `out` is as before.
    pub fn decompress_into(&mut self, frame: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
        let (head, compressed) = FrameHead::parse(frame)?;
        let dictionary = match head.dictionary {
            0 => None,
            id => Some(self.dictionaries.get(&id).ok_or(FrameError::MissingDictionary { id })?),
        };
        let start = out.len();
        out.resize(start + head.raw_bytes as usize, 0);
        let target = &mut out[start..];
        let written = match dictionary {
            None => self.context.decompress(target, compressed),
            Some(d) => self.context.decompress_using_ddict(target, compressed, &d.decoder),
        };
        let reason = match written {
            Ok(bytes) if bytes == head.raw_bytes as usize => return Ok(()),
            Ok(bytes) => format!("{bytes} bytes came out, {} were announced", head.raw_bytes),
            Err(code) => get_error_name(code).to_string(),
        };
        out.truncate(start);
        Err(FrameError::Damaged { reason })
    }

    /// The minified listing in `frame`.
    pub fn decompress(&mut self, frame: &[u8]) -> Result<Vec<u8>, FrameError> {
        let mut raw = Vec::new();
        self.decompress_into(frame, &mut raw)?;
        Ok(raw)
    }
}

impl std::fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decompressor")
            .field("dictionaries", &self.dictionaries.keys())
            .finish_non_exhaustive()
    }
}

fn zstd_error(code: usize) -> FrameError {
    FrameError::Zstd { reason: get_error_name(code) }
}

/// Whether so many minified listings of so many bytes together make a good dictionary.
pub fn is_enough_to_train(samples: usize, sample_bytes: usize) -> bool {
    samples >= SAMPLES_MIN && sample_bytes >= SAMPLE_BYTES_MIN
}

/// Trains a dictionary of at most [`DICTIONARY_BYTES`] from minified listings; takes seconds.
pub fn train_dictionary<S: AsRef<[u8]>>(samples: &[S]) -> Result<Vec<u8>, FrameError> {
    zstd::dict::from_samples(samples, DICTIONARY_BYTES)
        .map_err(|e| FrameError::Damaged { reason: format!("no dictionary from samples: {e}") })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(i: usize) -> Vec<u8> {
        format!(
            r#"{{"ListingKey":"ACT{i}","City":"Seattle","ListPrice":{},"StandardStatus":"Active",
"PublicRemarks":"A home number {} with a view of lake {}","PostalCode":"981{:02}"}}"#,
            i * 977,
            i * 31 % 101,
            i * 7 % 13,
            i % 100
        )
        .into_bytes()
    }

    fn dictionary(id: u32) -> Arc<Dictionary> {
        // zstd takes any bytes as a dictionary of raw content: quick, and enough to test with.
        Dictionary::try_new(id, (0..20).flat_map(sample).collect()).expect("any bytes will do")
    }

    #[test]
    fn a_frame_is_the_one_that_disks_were_written_with() {
        let mut compressor = Compressor::try_new(1, None).unwrap();
        let frame = compressor.compress(b"{}").unwrap();
        #[rustfmt::skip]
        let golden = [
            1, 0, 0, 0, 0, 2, 0, 0, 0,
            0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x00, 0x11, 0, 0, b'{', b'}', 0xd1, 0x94, 0xf2, 0x7a,
        ];
        assert_eq!(frame, golden, "{frame:x?}");
        let mut decompressor = Decompressor::try_new().unwrap();
        assert_eq!(decompressor.decompress(&golden).unwrap(), b"{}");
    }

    #[test]
    fn a_frame_names_its_dictionary_and_needs_it() {
        let known = dictionary(7);
        let mut compressor = Compressor::try_new(3, Some(&known)).unwrap();
        let frame = compressor.compress(&sample(77)).unwrap();
        assert_eq!(FrameHead::parse(&frame).unwrap().0.dictionary, 7);
        let mut decompressor = Decompressor::try_new().unwrap();
        let missing = Err(FrameError::MissingDictionary { id: 7 });
        assert_eq!(decompressor.decompress(&frame), missing);
        decompressor.add(known);
        assert_eq!(decompressor.decompress(&frame), Ok(sample(77)));
        let plain = Compressor::try_new(3, None).unwrap().compress(&sample(77)).unwrap();
        assert!(frame.len() * 2 < plain.len(), "{} against {}", frame.len(), plain.len());
        assert_eq!(decompressor.decompress(&plain), Ok(sample(77)));
    }

    #[test]
    fn the_wrong_dictionary_is_noticed() {
        let mut compressor = Compressor::try_new(1, Some(&dictionary(7))).unwrap();
        let mut frame = compressor.compress(&sample(3)).unwrap();
        frame[1] = 8;
        let mut decompressor = Decompressor::try_new().unwrap();
        let other: Vec<u8> = (500..520).flat_map(sample).collect();
        decompressor.add(Dictionary::try_new(8, other).unwrap());
        let found = decompressor.decompress(&frame);
        assert!(matches!(found, Err(FrameError::Damaged { .. })), "{found:?}");
    }

    #[test]
    fn a_trained_dictionary_helps_with_listings_that_it_never_saw() {
        let samples: Vec<Vec<u8>> = (0..3_000).map(sample).collect();
        let bytes = train_dictionary(&samples).unwrap();
        assert!(bytes.len() <= DICTIONARY_BYTES);
        let trained = Dictionary::try_new(1, bytes).unwrap();
        let with = Compressor::try_new(3, Some(&trained)).unwrap().compress(&sample(9_999));
        let without = Compressor::try_new(3, None).unwrap().compress(&sample(9_999));
        assert!(with.unwrap().len() * 2 < without.unwrap().len());
        assert!(!is_enough_to_train(3_000, samples.iter().map(Vec::len).sum()));
        assert!(is_enough_to_train(SAMPLES_MIN, SAMPLE_BYTES_MIN));
        assert!(train_dictionary(&[b"x"]).is_err());
    }

    #[test]
    fn a_frame_that_claims_too_much_is_refused_before_memory_is_asked_for() {
        let mut frame = Compressor::try_new(1, None).unwrap().compress(b"{}").unwrap();
        frame[5..9].copy_from_slice(&u32::MAX.to_le_bytes());
        let mut out = b"before".to_vec();
        let found = Decompressor::try_new().unwrap().decompress_into(&frame, &mut out);
        assert_eq!(found, Err(FrameError::TooLarge { bytes: u32::MAX as usize }));
        assert_eq!(out, b"before");
        let large = vec![b' '; LISTING_BYTES_MAX + 1];
        assert!(Compressor::try_new(1, None).unwrap().compress(&large).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_goes_in_comes_out(
            raws in proptest::collection::vec(
                proptest::collection::vec(any::<u8>(), 0..4_000), 1..4),
            level in -5..30i32, with_dictionary: bool,
        ) {
            let known = with_dictionary.then(|| dictionary(9));
            let mut compressor = Compressor::try_new(level, known.as_deref()).unwrap();
            let mut decompressor = Decompressor::try_new().unwrap();
            if let Some(known) = known {
                decompressor.add(known);
            }
            let mut out = Vec::new();
            for raw in &raws {
                decompressor.decompress_into(&compressor.compress(raw).unwrap(), &mut out).unwrap();
            }
            prop_assert_eq!(out, raws.concat());
        }

        #[test]
        fn a_flipped_bit_is_noticed_and_a_cut_frame_too(bit in 0..9_999usize, cut in 0..999usize) {
            let mut compressor = Compressor::try_new(1, None).unwrap();
            let frame = compressor.compress(&sample(5)).unwrap();
            let mut decompressor = Decompressor::try_new().unwrap();
            let mut flipped = frame.clone();
            let bit = bit % (frame.len() * 8);
            flipped[bit / 8] ^= 1 << (bit % 8);
            // A bit in the zstd frame's own head may mean nothing; then the body is intact.
            if let Ok(raw) = decompressor.decompress(&flipped) {
                prop_assert_eq!(raw, sample(5));
            }
            prop_assert!(decompressor.decompress(&frame[..cut % frame.len()]).is_err());
            prop_assert_eq!(decompressor.decompress(&frame), Ok(sample(5)));
        }

        #[test]
        fn no_bytes_make_it_panic(frame in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut decompressor = Decompressor::try_new().unwrap();
            decompressor.add(dictionary(1));
            let mut frame = frame;
            if let Some(format) = frame.first_mut() {
                *format = FORMAT_ZSTD;
            }
            if frame.len() > 8 {
                frame[1..9].copy_from_slice(&[1, 0, 0, 0, 90, 0, 0, 0]);
            }
            prop_assert!(decompressor.decompress(&frame).is_err());
        }
    }
}
