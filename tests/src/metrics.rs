//! Reading the Prometheus text format, as far as a test needs it.

/// One sample.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

/// Every sample of `text`.
///
/// # Panics
/// On a line that is neither comment nor sample: that is a broken exposition.
pub(crate) fn parse(text: &str) -> Vec<Sample> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(sample).collect()
}

/// The sum of all samples called `name` that have every one of `labels`; `None` when there is none.
pub(crate) fn sum(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let wanted = |sample: &&Sample| {
        sample.name == name
            && labels.iter().all(|(key, value)| sample.labels.iter().any(|(k, v)| (&**k, &**v) == (*key, *value)))
    };
    let values: Vec<f64> = samples.iter().filter(wanted).map(|sample| sample.value).collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line:?}"));
    let value = value.parse().unwrap_or_else(|_| panic!("no value: {line:?}"));
    let Some((name, labels)) = series.split_once('{') else {
        return Sample { name: series.to_owned(), labels: Vec::new(), value };
    };
    let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("labels that do not end: {line:?}"));
    // No label of ours holds a comma or an escaped quote; one that does would be seen here as a broken line.
    let labels = labels.split(',').filter(|label| !label.is_empty()).map(|label| {
        let (key, value) = label.split_once("=\"").unwrap_or_else(|| panic!("no label: {line:?}"));
        (key.to_owned(), value.strip_suffix('"').unwrap_or_else(|| panic!("no label: {line:?}")).to_owned())
    });
    Sample { name: name.to_owned(), labels: labels.collect(), value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_by_the_labels_that_are_asked_for() {
        let samples = parse("# HELP a b\na{x=\"1\",y=\"2\"} 3\na{x=\"1\",y=\"3\"} 4\nb 0.5\n");
        assert_eq!(sum(&samples, "a", &[("x", "1")]), Some(7.0));
        assert_eq!(sum(&samples, "a", &[("y", "3")]), Some(4.0));
        assert_eq!(sum(&samples, "a", &[("y", "4")]), None);
        assert_eq!(sum(&samples, "b", &[]), Some(0.5));
    }
}
