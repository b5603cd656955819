use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::testing::{rtp, rtp_of, start};

const PTIME: Duration = Duration::from_millis(20);

/// Counts packets that arrive every 20 ms with these sequence numbers.
fn count(sequences: &[u16]) -> Counters {
    let mut meter = Meter::default();
    let mut now = start();
    for &sequence in sequences {
        let packet = rtp(1, sequence);
        meter.count_rtp(now, &Rtp::parse(&packet).unwrap(), packet.len(), 8_000);
        now += PTIME;
    }
    meter.counters
}

#[test]
fn gap_is_loss() {
    let counters = count(&[10, 11, 15, 16]);
    assert_eq!(
        (
            counters.packets,
            counters.lost,
            counters.late,
            counters.duplicates
        ),
        (4, 3, 0, 0)
    );
}

#[test]
fn late_packet_is_not_lost_and_duplicate_is_neither() {
    let counters = count(&[10, 12, 11, 11, 13]);
    assert_eq!((counters.lost, counters.late, counters.duplicates), (0, 1, 1));
}

#[test]
fn sequence_numbers_wrap() {
    let counters = count(&[65_533, 65_534, 1, 65_535, 0, 2]);
    assert_eq!((counters.lost, counters.late), (0, 2));
    assert_eq!(count(&[65_534, 3]).lost, 4);
}

#[test]
fn restart_and_new_source_are_no_loss() {
    assert_eq!(count(&[10, 11, 30_000, 30_001, 30_002]).lost, 0);
    let mut meter = Meter::default();
    for (ssrc, sequence) in [(1, 10), (1, 12), (2, 500), (2, 501), (2, 503)] {
        let packet = rtp(ssrc, sequence);
        meter.count_rtp(start(), &Rtp::parse(&packet).unwrap(), packet.len(), 8_000);
    }
    assert_eq!(
        (meter.counters.lost, meter.counters.source_changes),
        (2, 1),
        "one of each"
    );
}

#[test]
fn stray_packet_is_no_restart() {
    let counters = count(&[10, 11, 40_000, 12, 13]);
    assert_eq!((counters.packets, counters.lost, counters.late), (5, 0, 0));
}

#[test]
fn even_stream_has_no_jitter_and_an_uneven_one_tends_to_its_mean_deviation() {
    assert_eq!(count(&(0..500).collect::<Vec<_>>()).jitter_us, 0);
    // Every other packet 10 ms late: each arrives 10 ms off its neighbour.
    let mut meter = Meter::default();
    let begin = start();
    for sequence in 0..500u16 {
        let packet = rtp(1, sequence);
        let late = Duration::from_millis(10) * u32::from(sequence % 2);
        let now = begin + PTIME * u32::from(sequence) + late;
        meter.count_rtp(now, &Rtp::parse(&packet).unwrap(), packet.len(), 8_000);
    }
    let jitter = meter.counters.jitter_us;
    assert!((9_000..=10_100).contains(&jitter), "{jitter} µs");
    assert_eq!(meter.counters.max_jitter_us, jitter);
}

#[test]
fn jitter_counts_in_the_clock_of_the_codec() {
    let mut meter = Meter::default();
    let begin = start();
    for sequence in 0..50u16 {
        let packet = rtp_of(97, 1, sequence, u32::from(sequence) * 960);
        let now = begin + PTIME * u32::from(sequence);
        meter.count_rtp(now, &Rtp::parse(&packet).unwrap(), packet.len(), 48_000);
    }
    assert_eq!(meter.counters.jitter_us, 0);
}

#[test]
fn repeats_of_a_telephone_event_are_no_jitter() {
    let mut meter = Meter::default();
    let begin = start();
    for sequence in 0..50u16 {
        let packet = rtp_of(101, 1, sequence, 160);
        meter.count_rtp(
            begin + PTIME * u32::from(sequence),
            &Rtp::parse(&packet).unwrap(),
            packet.len(),
            8_000,
        );
    }
    assert_eq!(meter.counters.jitter_us, 0);
}

proptest! {
    /// Any loss and any swap of neighbours, anywhere in the number space: exactly what was left out is lost.
    #[test]
    fn what_is_left_out_is_lost_and_nothing_else(
        base in any::<u16>(),
        fates in proptest::collection::vec((0u8..10, any::<bool>()), 2..300),
    ) {
        let mut sequences: Vec<(u16, bool)> = fates
            .iter()
            .enumerate()
            .map(|(n, &(fate, _))| (base.wrapping_add(n as u16), fate == 0))
            .collect();
        // The ends have to arrive: what is missing before the first or after the last cannot be known.
        sequences[0].1 = false;
        sequences.last_mut().unwrap().1 = false;
        let lost = sequences.iter().filter(|(_, lost)| *lost).count() as u64;
        let mut arriving: Vec<u16> = sequences.iter().filter(|(_, lost)| !lost).map(|(sequence, _)| *sequence).collect();
        for (n, &(_, swap)) in fates.iter().enumerate().skip(2) {
            if swap && n + 1 < arriving.len() {
                arriving.swap(n - 1, n);
            }
        }
        let counters = count(&arriving);
        prop_assert_eq!((counters.lost, counters.duplicates, counters.packets), (lost, 0, arriving.len() as u64));
    }

    #[test]
    fn arbitrary_headers_never_panic(headers in proptest::collection::vec(any::<[u8; 12]>(), 0..60), rate in any::<u32>()) {
        let mut meter = Meter::default();
        let mut now = start();
        for mut header in headers {
            header[0] = 0x80;
            meter.count_rtp(now, &Rtp::parse(&header).unwrap(), 12, rate);
            now += Duration::from_millis(u64::from(header[5]) * 100);
        }
    }
}
