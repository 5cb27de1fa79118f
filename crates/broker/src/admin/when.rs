//! Times as people and programs read them: RFC 3339, in UTC.

use std::time::Duration;

use viaduct_codec::Time;

/// Such as `2026-02-03T04:05:06.789Z`.
pub(super) fn rfc3339(time: Time) -> String {
    let milliseconds = time.as_millis();
    let (days, rest) = (milliseconds / 86_400_000, milliseconds % 86_400_000);
    let (year, month, day) = date(days);
    let (seconds, fraction) = (rest / 1000, rest % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:03}Z")
}

/// Seconds since 1970 as [`rfc3339`].
pub(super) fn seconds(seconds: i64) -> String {
    rfc3339(Time::default().after(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))))
}

/// The day that many days after 1970 began, in the Gregorian calendar: years of 400, 100, 4 and 1 are counted from 1 March
/// 2000, so that the leap day is the last of each.
const fn date(days: u64) -> (u64, u64, u64) {
    /// From 1 March 0000 to 1 January 1970.
    const BEFORE: u64 = 719_468;
    const ERA: u64 = 146_097;
    let days = days + BEFORE;
    let (era, day_of_era) = (days / ERA, days % ERA);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + if month <= 2 { 1 } else { 0 }, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        let table = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
            (1_735_689_599_000, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ];
        for (milliseconds, text) in table {
            assert_eq!(rfc3339(Time::from_millis(milliseconds)), text);
        }
        assert_eq!(seconds(1_709_164_800), "2024-02-29T00:00:00.000Z");
    }
}
