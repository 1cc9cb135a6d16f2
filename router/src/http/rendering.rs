//! A renderer with what it needs around it: dictionaries, and threads for the work.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use platbook_protocol::problem::Code;
use tokio::time::Instant;

use super::problem::ApiError;
use crate::app::App;
use crate::read::encoding::Encoding;
use crate::read::fields::Fields;
use crate::read::render::{Format, RenderError, Renderer};
use crate::read::scan::ScannedRow;

/// Frames up to so many bytes are rendered where they arrive: handing them over would cost more.
const INLINE_BYTES_MAX: usize = 8 << 10;
/// How long to wait for a dictionary that a frame needs.
const DICTIONARY_MS_MAX: u64 = 5_000;

/// Renders one response.
pub(crate) struct Rendering {
    app: Arc<App>,
    /// Away only while it works.
    renderer: Option<Renderer>,
    is_cheap: bool,
}

impl Rendering {
    /// Starts a response.
    pub(crate) fn try_new(
        app: Arc<App>,
        format: Format,
        fields: Option<Fields>,
        encoding: Encoding,
    ) -> Result<Rendering, ApiError> {
        let known = app.dictionaries.known().values().cloned().collect::<Vec<_>>();
        let renderer = Renderer::try_new(format, fields, encoding, known).map_err(internal)?;
        let is_cheap = encoding == Encoding::Identity;
        Ok(Rendering { app, renderer: Some(renderer), is_cheap })
    }

    /// The bytes for these rows.
    pub(crate) async fn rows(&mut self, rows: Vec<ScannedRow>) -> Result<Bytes, ApiError> {
        let mut renderer = self.renderer.take().ok_or_else(lost)?;
        self.app.metrics.listings_streamed.add(rows.len() as u64);
        for id in renderer.missing(&rows) {
            let deadline = Instant::now() + Duration::from_millis(DICTIONARY_MS_MAX);
            if let Some(dictionary) = self.app.dictionaries.get(id, deadline).await? {
                renderer.add(dictionary);
            }
        }
        let bytes: usize = rows.iter().map(|row| row.frame.len()).sum();
        let work = move || {
            let rendered = renderer.rows(&rows);
            (renderer, rendered)
        };
        let (renderer, rendered) = match self.is_cheap && bytes <= INLINE_BYTES_MAX {
            true => work(),
            false => self.app.cpu.run(work).await.map_err(internal)?,
        };
        self.renderer = Some(renderer);
        Ok(rendered.map_err(internal_render)?.into())
    }

    /// The last bytes.
    pub(crate) async fn finish(mut self) -> Result<Bytes, ApiError> {
        let renderer = self.renderer.take().ok_or_else(lost)?;
        let last = match self.is_cheap {
            true => renderer.finish(),
            false => self.app.cpu.run(|| renderer.finish()).await.map_err(internal)?,
        };
        Ok(last.map_err(internal_render)?.into())
    }
}

fn internal(error: impl std::error::Error) -> ApiError {
    ApiError::new(Code::Internal, error.to_string())
}

fn internal_render(error: RenderError) -> ApiError {
    tracing::error!(%error, "listing cannot be rendered");
    internal(error)
}

fn lost() -> ApiError {
    ApiError::new(Code::Internal, "the renderer was lost")
}
