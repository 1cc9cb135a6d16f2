//! Content codings of responses, chunk by chunk.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

/// gzip level: a link of 1 Gbit/s is not slower than the next one.
const GZIP_LEVEL: u32 = 4;
/// zstd level.
const ZSTD_LEVEL: i32 = 1;

/// How a response is coded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Encoding {
    /// As it is.
    #[default]
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Encoding {
    /// The best coding that `Accept-Encoding` allows; without the header, none.
    pub(crate) fn negotiate(accept: Option<&str>) -> Encoding {
        let mut best = (0, Encoding::Identity);
        for part in accept.unwrap_or_default().split(',') {
            let mut parameters = part.split(';').map(str::trim);
            let name = parameters.next().unwrap_or_default();
            let quality = parameters.find_map(|p| p.strip_prefix("q=")).map_or(1_000, thousandths);
            // At the same quality zstd first: less work on both sides.
            let offer = match name.to_ascii_lowercase().as_str() {
                "zstd" => (quality * 2 + 1, Encoding::Zstd),
                "gzip" | "x-gzip" => (quality * 2, Encoding::Gzip),
                _ => continue,
            };
            if quality > 0 && offer.0 > best.0 {
                best = offer;
            }
        }
        best.1
    }

    /// The value of `Content-Encoding`, if one is needed.
    pub(crate) fn header(self) -> Option<&'static str> {
        match self {
            Encoding::Identity => None,
            Encoding::Gzip => Some("gzip"),
            Encoding::Zstd => Some("zstd"),
        }
    }
}

/// A quality in thousandths; what cannot be read counts as "not at all".
fn thousandths(text: &str) -> u32 {
    let quality: f32 = text.parse().unwrap_or(0.0);
    (quality.clamp(0.0, 1.0) * 1_000.0) as u32
}

/// Codes a stream of chunks.
pub(crate) enum Encoder {
    /// As it is.
    Identity,
    /// gzip.
    Gzip(Box<GzEncoder<Vec<u8>>>),
    /// zstd.
    Zstd(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
}

impl Encoder {
    /// Starts a stream.
    pub(crate) fn try_new(encoding: Encoding) -> std::io::Result<Encoder> {
        Ok(match encoding {
            Encoding::Identity => Encoder::Identity,
            Encoding::Gzip => {
                let level = Compression::new(GZIP_LEVEL);
                Encoder::Gzip(Box::new(GzEncoder::new(Vec::new(), level)))
            }
            Encoding::Zstd => {
                let encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                Encoder::Zstd(Box::new(encoder))
            }
        })
    }

    /// Codes a chunk; what comes out may lag behind, but never by more than a window.
    pub(crate) fn encode(&mut self, chunk: Vec<u8>) -> std::io::Result<Vec<u8>> {
        match self {
            Encoder::Identity => Ok(chunk),
            Encoder::Gzip(encoder) => {
                encoder.write_all(&chunk)?;
                Ok(std::mem::take(encoder.get_mut()))
            }
            Encoder::Zstd(encoder) => {
                encoder.write_all(&chunk)?;
                Ok(std::mem::take(encoder.get_mut()))
            }
        }
    }

    /// The rest.
    pub(crate) fn finish(self) -> std::io::Result<Vec<u8>> {
        match self {
            Encoder::Identity => Ok(Vec::new()),
            Encoder::Gzip(encoder) => encoder.finish(),
            Encoder::Zstd(encoder) => encoder.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn the_client_decides_and_zstd_is_preferred() {
        let cases = [
            (None, Encoding::Identity),
            (Some(""), Encoding::Identity),
            (Some("gzip"), Encoding::Gzip),
            (Some("gzip, zstd"), Encoding::Zstd),
            (Some("gzip;q=1.0, zstd;q=0.5"), Encoding::Gzip),
            (Some("gzip;q=0, br"), Encoding::Identity),
            (Some("GZIP ; q=0.1"), Encoding::Gzip),
            (Some("zstd;q=x"), Encoding::Identity),
        ];
        for (accept, expected) in cases {
            assert_eq!(Encoding::negotiate(accept), expected, "{accept:?}");
        }
    }

    #[test]
    fn chunks_come_out_as_they_went_in() {
        let chunks: Vec<Vec<u8>> = (0..50_u8).map(|i| vec![i; 10_000]).collect();
        for encoding in [Encoding::Identity, Encoding::Gzip, Encoding::Zstd] {
            let mut encoder = Encoder::try_new(encoding).unwrap();
            let mut coded = Vec::new();
            for chunk in chunks.clone() {
                coded.extend(encoder.encode(chunk).unwrap());
            }
            coded.extend(encoder.finish().unwrap());
            let mut plain = Vec::new();
            match encoding {
                Encoding::Identity => plain = coded,
                Encoding::Gzip => {
                    flate2::read::GzDecoder::new(&coded[..]).read_to_end(&mut plain).unwrap();
                }
                Encoding::Zstd => plain = zstd::decode_all(&coded[..]).unwrap(),
            }
            assert_eq!(plain, chunks.concat(), "{encoding:?}");
        }
    }
}
