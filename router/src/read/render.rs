//! From frames to the bytes of a response: decompressed, projected, put into the format, coded.

use std::collections::BTreeSet;
use std::sync::Arc;

use platbook_protocol::frame::{Decompressor, Dictionary, FrameError, FrameHead};

use super::encoding::{Encoder, Encoding};
use super::fields::Fields;
use super::scan::ScannedRow;

/// How listings stand in a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Format {
    /// One JSON array.
    #[default]
    Json,
    /// One listing a line.
    Ndjson,
}

impl Format {
    /// Media type of the response.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Ndjson => "application/x-ndjson",
        }
    }
}

/// Why listings cannot be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenderError {
    /// A frame that cannot be read.
    #[error("listing {id}: {source}")]
    Frame {
        /// The listing.
        id: String,
        /// What is wrong with its frame.
        #[source]
        source: FrameError,
    },
    /// The decompressor itself.
    #[error("decompressor: {0}")]
    Decompressor(#[from] FrameError),
    /// The content coding.
    #[error("content coding: {0}")]
    Encoding(#[from] std::io::Error),
}

/// Renders one response.
pub(crate) struct Renderer {
    decompressor: Decompressor,
    format: Format,
    fields: Option<Fields>,
    encoder: Encoder,
    scratch: Vec<u8>,
    is_first: bool,
}

impl Renderer {
    /// Starts a response that can read frames of these dictionaries.
    pub(crate) fn try_new(
        format: Format,
        fields: Option<Fields>,
        encoding: Encoding,
        dictionaries: impl IntoIterator<Item = Arc<Dictionary>>,
    ) -> Result<Renderer, RenderError> {
        let mut decompressor = Decompressor::try_new()?;
        for dictionary in dictionaries {
            decompressor.add(dictionary);
        }
        let encoder = Encoder::try_new(encoding)?;
        Ok(Renderer { decompressor, format, fields, encoder, scratch: Vec::new(), is_first: true })
    }

    /// The dictionaries that must be [added](Renderer::add) before these rows are rendered.
    pub(crate) fn missing(&self, rows: &[ScannedRow]) -> BTreeSet<u32> {
        let of_row =
            |row: &ScannedRow| FrameHead::parse(&row.frame).map(|(head, _)| head.dictionary);
        let ids = rows.iter().filter_map(|row| of_row(row).ok());
        ids.filter(|id| !self.decompressor.knows(*id)).collect()
    }

    /// Adds a dictionary.
    pub(crate) fn add(&mut self, dictionary: Arc<Dictionary>) {
        self.decompressor.add(dictionary);
    }

    /// The bytes for these rows.
    pub(crate) fn rows(&mut self, rows: &[ScannedRow]) -> Result<Vec<u8>, RenderError> {
        let mut out = Vec::new();
        for row in rows {
            match (self.format, std::mem::take(&mut self.is_first)) {
                (Format::Json, true) => out.push(b'['),
                (Format::Json, false) => out.push(b','),
                (Format::Ndjson, _) => {}
            }
            self.listing(row, &mut out)?;
            if self.format == Format::Ndjson {
                out.push(b'\n');
            }
        }
        Ok(self.encoder.encode(out)?)
    }

    /// The last bytes.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>, RenderError> {
        let end: &[u8] = match (self.format, self.is_first) {
            (Format::Json, true) => b"[]",
            (Format::Json, false) => b"]",
            (Format::Ndjson, _) => b"",
        };
        let mut last = self.encoder.encode(end.to_vec())?;
        last.extend(self.encoder.finish()?);
        Ok(last)
    }

    fn listing(&mut self, row: &ScannedRow, out: &mut Vec<u8>) -> Result<(), RenderError> {
        let decompressed = match &self.fields {
            None => self.decompressor.decompress_into(&row.frame, out),
            Some(fields) => {
                self.scratch.clear();
                let decompressed = self.decompressor.decompress_into(&row.frame, &mut self.scratch);
                fields.project(&self.scratch, out);
                decompressed
            }
        };
        decompressed.map_err(|source| {
            let id = String::from_utf8_lossy(&row.id).into_owned();
            RenderError::Frame { id, source }
        })
    }
}

#[cfg(test)]
mod tests {
    use platbook_protocol::frame::Compressor;

    use super::*;

    fn row(body: &str) -> ScannedRow {
        let frame = Compressor::try_new(1, None).unwrap().compress(body.as_bytes()).unwrap();
        ScannedRow { id: "a".into(), frame: frame.into() }
    }

    fn render(format: Format, fields: Option<&str>, bodies: &[&str]) -> String {
        let fields = fields.map(Fields::parse);
        let mut renderer =
            Renderer::try_new(format, fields, Encoding::Identity, Vec::new()).unwrap();
        let mut out = Vec::new();
        for body in bodies {
            out.extend(renderer.rows(&[row(body)]).unwrap());
        }
        out.extend(renderer.finish().unwrap());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn listings_stand_in_their_format() {
        assert_eq!(render(Format::Json, None, &[]), "[]");
        assert_eq!(render(Format::Json, None, &["{}", r#"{"a":1}"#]), r#"[{},{"a":1}]"#);
        assert_eq!(render(Format::Ndjson, None, &[]), "");
        assert_eq!(render(Format::Ndjson, None, &["{}", r#"{"a":1}"#]), "{}\n{\"a\":1}\n");
        let projected = render(Format::Json, Some("a"), &[r#"{"b":2,"a":1}"#, "{}"]);
        assert_eq!(projected, r#"[{"a":1},{}]"#);
    }

    #[test]
    fn a_damaged_frame_is_an_error_that_names_the_listing() {
        let mut renderer =
            Renderer::try_new(Format::Json, None, Encoding::Identity, Vec::new()).unwrap();
        let mut damaged = row("{}");
        damaged.frame = damaged.frame.slice(..damaged.frame.len() - 1);
        let error = renderer.rows(&[damaged]).expect_err("damaged");
        assert!(error.to_string().starts_with("listing a:"), "{error}");
    }
}
