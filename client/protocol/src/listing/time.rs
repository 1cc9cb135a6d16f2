//! Times as operators write them: RFC 3339, its ISO 8601 relatives, or epoch milliseconds.

use crate::TimeMs;

/// The last millisecond of the year 9999; later ones are garbage.
const TIME_MS_MAX: u64 = 253_402_300_799_999;

/// Reads `2024-05-06`, `2024-05-06T07:08`, `...:09`, `...09.123456`, each time with or without
/// `Z`, `+02:00`, `+0200` or `+02`; a space may stand for the `T`. Without a zone it is UTC. Digits
/// behind the millisecond are cut. `None` for anything else and for times before 1970.
pub(super) fn parse_time(text: &str) -> Option<TimeMs> {
    let mut rest = text.trim().as_bytes();
    let year = digits(&mut rest, 4)?;
    let month = take(&mut rest, b"-").and_then(|()| digits(&mut rest, 2))?;
    let day = take(&mut rest, b"-").and_then(|()| digits(&mut rest, 2))?;
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
        return None;
    }
    let mut ms = days_since_epoch(year, month, day) * 86_400_000;
    if !rest.is_empty() {
        take(&mut rest, b"Tt ")?;
        ms += time_of_day(&mut rest)?;
        ms -= zone(&mut rest)? * 60_000;
    }
    if !rest.is_empty() {
        return None;
    }
    u64::try_from(ms).ok().filter(|&ms| ms <= TIME_MS_MAX).map(TimeMs)
}

/// Reads a JSON number as epoch milliseconds; a fraction is cut.
pub(super) fn parse_epoch_ms(number: &str) -> Option<TimeMs> {
    let ms = match number.parse::<u64>() {
        Ok(ms) => ms,
        Err(_) => number.parse::<f64>().ok().filter(|ms| (0.0..1e15).contains(ms))? as u64,
    };
    (ms <= TIME_MS_MAX).then_some(TimeMs(ms))
}

fn time_of_day(rest: &mut &[u8]) -> Option<i64> {
    let hour = digits(rest, 2)?;
    take(rest, b":")?;
    let minute = digits(rest, 2)?;
    let mut second = 0;
    let mut ms = 0;
    if take(rest, b":").is_some() {
        second = digits(rest, 2)?;
        if take(rest, b".,").is_some() {
            ms = fraction_ms(rest)?;
        }
    }
    // A leap second reads as the first second of the next minute.
    let in_range = hour <= 23 && minute <= 59 && second <= 60;
    in_range.then_some(((hour * 60 + minute) * 60 + second) * 1000 + ms)
}

fn fraction_ms(rest: &mut &[u8]) -> Option<i64> {
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let digit = |i: usize| if i < count { i64::from(rest[i] - b'0') } else { 0 };
    let ms = digit(0) * 100 + digit(1) * 10 + digit(2);
    *rest = &rest[count..];
    (count > 0).then_some(ms)
}

/// Minutes east of Greenwich.
fn zone(rest: &mut &[u8]) -> Option<i64> {
    if rest.is_empty() || take(rest, b"Zz").is_some() {
        return Some(0);
    }
    let sign = if rest.first() == Some(&b'-') { -1 } else { 1 };
    take(rest, b"+-")?;
    let hours = digits(rest, 2)?;
    let minutes = match take(rest, b":") {
        None if rest.is_empty() => 0,
        _ => digits(rest, 2)?,
    };
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes))
}

fn take(rest: &mut &[u8], any_of: &[u8]) -> Option<()> {
    let (first, tail) = rest.split_first()?;
    any_of.contains(first).then(|| *rest = tail)
}

fn digits(rest: &mut &[u8], count: usize) -> Option<i64> {
    let (head, tail) = rest.split_at_checked(count)?;
    *rest = tail;
    head.iter().try_fold(0, |number, byte| {
        byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0'))
    })
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the Gregorian calendar, for years from 0.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    const BEFORE_MONTH: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let leap_day = i64::from(month > 2 && is_leap(year));
    let last = year - 1;
    let leap_years = last.div_euclid(4) - last.div_euclid(100) + last.div_euclid(400);
    year * 365 + leap_years + BEFORE_MONTH[(month - 1) as usize] + leap_day + day - 719_528
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_operators_write_them() {
        let cases = [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T00:00:00Z", 951_782_400_000),
            ("2024-12-31T23:59:59.999Z", 1_735_689_599_999),
            ("9999-12-31T23:59:59.999Z", TIME_MS_MAX),
            ("2024-05-06T07:08:09.123Z", 1_714_979_289_123),
            ("2024-05-06t07:08:09.1239999z", 1_714_979_289_123),
            ("2024-05-06 07:08:09.123", 1_714_979_289_123),
            ("2024-05-06T07:08:09,1", 1_714_979_289_100),
            ("2024-05-06T09:08:09.123+02:00", 1_714_979_289_123),
            ("2024-05-06T00:38:09.123-0630", 1_714_979_289_123),
            ("2024-05-06T09:08:09.123+02", 1_714_979_289_123),
            ("2024-05-06T07:08", 1_714_979_280_000),
            (" 2024-05-06 ", 1_714_953_600_000),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000),
        ];
        for (text, ms) in cases {
            assert_eq!(parse_time(text), Some(TimeMs(ms)), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_not_guessed() {
        let cases = [
            "",
            "now",
            "2024",
            "2024-13-01",
            "2024-02-30",
            "2023-02-29",
            "1900-02-29",
            "2024-00-10",
            "2024-01-00",
            "2024-05-06T",
            "2024-05-06T24:00:00",
            "2024-05-06T07",
            "2024-05-06T07:60",
            "2024-05-06T07:08:09.",
            "2024-05-06T07:08:09+25:00",
            "2024-05-06T07:08:09+2",
            "2024-05-06T07:08:09Z.",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+01:00",
            "06/05/2024",
            "2024-05-06Z",
            "2024-05-06T07:08:09\u{661}",
        ];
        for text in cases {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_epoch_milliseconds() {
        assert_eq!(parse_epoch_ms("1714979289123"), Some(TimeMs(1_714_979_289_123)));
        assert_eq!(parse_epoch_ms("1.714979289123e12"), Some(TimeMs(1_714_979_289_123)));
        for garbage in ["-1", "1e300", "99999999999999999999", "253402300800000", "-0.5"] {
            assert_eq!(parse_epoch_ms(garbage), None, "{garbage}");
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut expected = days_since_epoch(1970, 1, 1);
        assert_eq!(expected, 0);
        for year in 1970..=2500 {
            for month in 1..=12 {
                for day in 1..=days_in(year, month) {
                    assert_eq!(days_since_epoch(year, month, day), expected);
                    expected += 1;
                }
            }
        }
    }
}
