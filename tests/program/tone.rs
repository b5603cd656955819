//! Tones: made for one telephone, looked for in what the other recorded.

use std::f64::consts::TAU;
use std::path::Path;

/// A tone with which a telephone speaks, in Hz. They are far apart and none is a harmonic of another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tone(pub(crate) u32);

pub(crate) const LOW: Tone = Tone(440);
pub(crate) const HIGH: Tone = Tone(1030);

/// A recording: mono samples.
pub(crate) struct Recording {
    rate: f64,
    samples: Vec<f64>,
}

impl Tone {
    /// Writes a minute of it as 16-bit mono WAV with 8000 samples per second.
    pub(crate) fn write(self, path: &Path) {
        let samples = (0..RATE * SECONDS).flat_map(|n| {
            let phase = TAU * f64::from(self.0) * f64::from(n) / f64::from(RATE);
            #[allow(clippy::cast_possible_truncation)]
            let sample = (phase.sin() * 12_000.0) as i16;
            sample.to_le_bytes()
        });
        let mut wav = wav_header(RATE * SECONDS * 2);
        wav.extend(samples);
        std::fs::write(path, wav).expect("a tone can be written");
    }
}

impl Recording {
    /// Samples as they came off the wire.
    pub(crate) fn of(samples: Vec<f64>) -> Self {
        Self {
            rate: f64::from(RATE),
            samples,
        }
    }

    /// Several WAV files, one after the other: telephones begin a new one after a hold.
    pub(crate) fn read(paths: &[std::path::PathBuf]) -> Self {
        let mut all = Self {
            rate: f64::from(RATE),
            samples: Vec::new(),
        };
        for path in paths {
            let bytes = std::fs::read(path).unwrap_or_default();
            if let Some(one) = Self::parse(&bytes) {
                all.rate = one.rate;
                all.samples.extend(one.samples);
            }
        }
        all
    }

    /// The sizes in the header are ignored: a recording that still goes on has none yet.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut chunks = bytes.get(12..)?;
        let mut rate = None;
        loop {
            let (header, rest) = chunks.split_at_checked(8)?;
            if &header[..4] == b"data" {
                let samples = rest
                    .chunks_exact(2)
                    .map(|pair| f64::from(i16::from_le_bytes([pair[0], pair[1]])))
                    .collect();
                return Some(Self { rate: rate?, samples });
            }
            let size = u32::from_le_bytes(header[4..8].try_into().ok()?) as usize;
            if &header[..4] == b"fmt " {
                rate = Some(f64::from(u32::from_le_bytes(rest.get(4..8)?.try_into().ok()?)));
            }
            chunks = rest.get(size..)?;
        }
    }

    /// Seconds recorded.
    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn seconds(&self) -> f64 {
        self.samples.len() as f64 / self.rate
    }

    /// Seconds in which `tone` makes up most of the sound.
    pub(crate) fn seconds_of(&self, tone: Tone) -> f64 {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let window = (self.rate * WINDOW) as usize;
        let heard = self
            .samples
            .chunks_exact(window)
            .filter(|samples| share(samples, self.rate, tone) > 0.5)
            .count();
        #[allow(clippy::cast_precision_loss)]
        {
            heard as f64 * WINDOW
        }
    }

    /// At least a second of `tone`, and nothing of `other`.
    #[track_caller]
    pub(crate) fn assert_holds(&self, tone: Tone, other: Tone) {
        let (wanted, unwanted, all) = (self.seconds_of(tone), self.seconds_of(other), self.seconds());
        assert!(
            wanted >= 1.0 && unwanted == 0.0,
            "expected a second of {tone:?} and no {other:?}; heard {wanted:.1} s and {unwanted:.1} s in {all:.1} s"
        );
    }
}

/// Goertzel's algorithm: the share of the window's power that lies at the tone, 0 to 1; 0 for silence.
fn share(samples: &[f64], rate: f64, tone: Tone) -> f64 {
    let power: f64 = samples.iter().map(|sample| sample * sample).sum();
    #[allow(clippy::cast_precision_loss)]
    let length = samples.len() as f64;
    if power / length < SILENCE * SILENCE {
        return 0.0;
    }
    let coefficient = 2.0 * (TAU * f64::from(tone.0) / rate).cos();
    let (one, two) = samples.iter().fold((0.0, 0.0), |(one, two), sample| {
        (sample + coefficient * one - two, one)
    });
    let at_tone = one * one + two * two - coefficient * one * two;
    2.0 * at_tone / (length * power)
}

fn wav_header(data: u32) -> Vec<u8> {
    let mut header = Vec::with_capacity(44);
    header.extend(b"RIFF");
    header.extend((36 + data).to_le_bytes());
    header.extend(b"WAVEfmt ");
    header.extend(16u32.to_le_bytes());
    for half in [1u16, 1] {
        header.extend(half.to_le_bytes());
    }
    header.extend(RATE.to_le_bytes());
    header.extend((RATE * 2).to_le_bytes());
    for half in [2u16, 16] {
        header.extend(half.to_le_bytes());
    }
    header.extend(b"data");
    header.extend(data.to_le_bytes());
    header
}

const RATE: u32 = 8_000;
const SECONDS: u32 = 60;
/// Seconds that are judged at once.
const WINDOW: f64 = 0.1;
/// Root mean square below which a window is silent (of 32768).
const SILENCE: f64 = 300.0;

#[test]
fn a_tone_is_found_and_told_from_another_and_from_silence() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let path = folder.path().join("tone.wav");
    LOW.write(&path);
    let recording = Recording::read(&[path]);
    recording.assert_holds(LOW, HIGH);
    assert!(recording.seconds_of(LOW) > 59.0);
    let silence = Recording {
        rate: 8_000.0,
        samples: vec![0.0; 8_000],
    };
    assert_eq!(silence.seconds_of(LOW), 0.0);
    let noise: Vec<f64> = (0..16_000)
        .map(|n: i32| f64::from((n.wrapping_mul(1_103_515_245) >> 8) % 9_000))
        .collect();
    assert!(
        Recording {
            rate: 8_000.0,
            samples: noise
        }
        .seconds_of(LOW)
            < 0.2
    );
}
