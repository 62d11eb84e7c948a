//! Images: in memory, encoded, or files; CIFAR-10 as published, and folders of classes.

use std::path::{Path, PathBuf};

use delta_dct::Error as DeltaError;
use image::{ColorType, ImageReader};

use super::dataset::Examples;
use super::labels::Label;
use super::source;
use crate::error::Result;

/// A record of CIFAR-10: the class, then 32x32 red, green and blue.
const CIFAR_SIDE: usize = 32;
const CIFAR_PLANE: usize = CIFAR_SIDE * CIFAR_SIDE;
const CIFAR_RECORD: usize = 1 + 3 * CIFAR_PLANE;

/// Pixels of 8 bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    /// Columns.
    pub(super) width: usize,
    /// Rows.
    pub(super) height: usize,
    /// 1 (grey) or 3 (red, green, blue).
    pub(super) channels: usize,
    /// height x width x channels.
    pub(super) bytes: Vec<u8>,
}

/// An image that may still have to be read and decoded: that is done for one batch at a time.
#[derive(Clone, Debug)]
pub(super) enum Picture {
    /// Pixels.
    Raw(Image),
    /// The bytes of a PNG or JPEG file.
    Encoded(Vec<u8>),
    /// A PNG or JPEG file.
    File(PathBuf),
}

impl Picture {
    /// Its pixels, with `channels` channels (1 or 3): grey becomes red, green and blue; transparency is dropped.
    /// Errors: `Corrupt` if it cannot be decoded, `Mismatch` for a coloured image where grey is needed.
    pub(super) fn image(&self, channels: usize) -> Result<Image> {
        let image = match self {
            Self::Raw(image) => image.clone(),
            Self::Encoded(bytes) => decode(bytes, "an encoded image")?,
            Self::File(path) => decode(&source::read(path)?, &path.display().to_string())?,
        };
        match (image.channels, channels) {
            (found, needed) if found == needed => Ok(image),
            (1, 3) => {
                Ok(Image { channels, bytes: image.bytes.iter().flat_map(|&v| [v; 3]).collect(), ..image })
            }
            (found, needed) => {
                let message = format!("the images have {found} channels, the model takes {needed}");
                Err(DeltaError::mismatch(message).into())
            }
        }
    }
}

fn decode(bytes: &[u8], name: &str) -> Result<Image> {
    let wrong = |e: String| DeltaError::corrupt(format!("{name}: {e}"));
    let reader = ImageReader::new(std::io::Cursor::new(bytes)).with_guessed_format();
    let image = reader.map_err(|e| wrong(e.to_string()))?.decode().map_err(|e| wrong(e.to_string()))?;
    let (width, height) = (image.width() as usize, image.height() as usize);
    let grey = matches!(image.color(), ColorType::L8 | ColorType::La8 | ColorType::L16 | ColorType::La16);
    let (channels, bytes) =
        if grey { (1, image.into_luma8().into_raw()) } else { (3, image.into_rgb8().into_raw()) };
    Ok(Image { width, height, channels, bytes })
}

/// The images and classes of a binary file of CIFAR-10.
pub(super) fn cifar(path: &Path) -> Result<(Examples, Vec<Option<Label>>)> {
    let bytes = source::read(path)?;
    if bytes.is_empty() || !bytes.len().is_multiple_of(CIFAR_RECORD) {
        let message = format!("{}: not CIFAR-10, whose records have {CIFAR_RECORD} bytes", path.display());
        return Err(DeltaError::corrupt(message).into());
    }
    let records = bytes.chunks_exact(CIFAR_RECORD).filter_map(<[u8]>::split_first);
    let (labels, pictures) =
        records.map(|(&class, planes)| (Some(Label::Class(class.into())), interleave(planes))).unzip();
    Ok((Examples::Pictures(pictures), labels))
}

/// Three planes to pixels.
fn interleave(planes: &[u8]) -> Picture {
    let (red, rest) = planes.split_at(CIFAR_PLANE);
    let (green, blue) = rest.split_at(CIFAR_PLANE);
    let bytes = red.iter().zip(green).zip(blue).flat_map(|((&r, &g), &b)| [r, g, b]).collect();
    Picture::Raw(Image { width: CIFAR_SIDE, height: CIFAR_SIDE, channels: 3, bytes })
}

/// The PNG and JPEG files of a folder that has a folder for each class; one of each class in turn.
pub(super) fn folder(path: &Path) -> Result<(Examples, Vec<Option<Label>>)> {
    let mut found = Vec::new();
    for class in source::entries(path)?.into_iter().filter(|entry| entry.is_dir()) {
        let name = class.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let files = source::entries(&class)?.into_iter().filter(|file| is_image(file));
        found.extend(files.enumerate().map(|(turn, file)| (turn, name.clone(), file)));
    }
    if found.is_empty() {
        let message = "no data file in it, and no folder with PNG or JPEG images for each class";
        return Err(DeltaError::invalid(format!("{}: {message}", path.display())).into());
    }
    found.sort();
    let (labels, pictures) =
        found.into_iter().map(|(_, name, file)| (Label::text(&name), Picture::File(file))).unzip();
    Ok((Examples::Pictures(pictures), labels))
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    path.is_file() && matches!(extension.as_deref(), Some("png" | "jpg" | "jpeg"))
}
