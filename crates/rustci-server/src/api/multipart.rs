//! Bodies of the type `multipart/form-data` (RFC 7578), already in memory.

/// One part of a form.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part<'b> {
    /// The field's name.
    pub(super) name: String,
    /// What it has.
    pub(super) body: &'b [u8],
}

/// Parts of a form, at most.
const PARTS_MAX: usize = 16;
/// Characters of a boundary (RFC 2046, 5.1.1).
const BOUNDARY_MAX: usize = 70;

/// Takes a form apart. The error is a sentence for the caller.
pub(super) fn parts<'b>(content_type: &str, body: &'b [u8]) -> Result<Vec<Part<'b>>, String> {
    let boundary = parameter(content_type, "boundary")
        .filter(|boundary| (1..=BOUNDARY_MAX).contains(&boundary.len()))
        .ok_or("the header Content-Type names no boundary")?;
    let delimiter = format!("--{boundary}");
    let open = find(body, delimiter.as_bytes()).ok_or("the body is not the form that it says")?;
    let mut rest = body.get(open + delimiter.len()..).unwrap_or_default();
    let delimiter = format!("\r\n--{boundary}");
    let mut parts = Vec::new();
    while !rest.starts_with(b"--") {
        let end = find(rest, delimiter.as_bytes()).ok_or("the form has no end")?;
        let (part, after) = rest.split_at(end);
        parts.extend(read(part));
        if parts.len() > PARTS_MAX {
            return Err(format!("the form has more than {PARTS_MAX} parts"));
        }
        rest = after.get(delimiter.len()..).unwrap_or_default();
    }
    Ok(parts)
}

/// A part behind its delimiter: header lines, an empty line, the body. None without a name.
fn read(part: &[u8]) -> Option<Part<'_>> {
    let split = find(part, b"\r\n\r\n")?;
    let (head, body) = part.split_at(split);
    let head = std::str::from_utf8(head).ok()?;
    let disposition = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim()
            .eq_ignore_ascii_case("content-disposition")
            .then_some(value)
    })?;
    Some(Part {
        name: parameter(disposition, "name")?,
        body: body.get(4..)?,
    })
}

/// A parameter of a header's value, with or without quotes.
fn parameter(value: &str, name: &str) -> Option<String> {
    value.split(';').skip(1).find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let value = value.trim().trim_matches('"');
        key.trim()
            .eq_ignore_ascii_case(name)
            .then(|| value.to_owned())
    })
}

/// Where `needle` begins in `bytes`.
fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let starts = bytes.iter().enumerate().filter(|(_, byte)| **byte == first);
    let mut found = starts.map(|(at, _)| at);
    found.find(|at| {
        bytes
            .get(*at..)
            .is_some_and(|rest| rest.starts_with(needle))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_comes_apart() {
        let body = b"preamble\r\n--X\r\nContent-Disposition: form-data; name=\"file\"; \
                     filename=\"a.yaml\"\r\nContent-Type: text/yaml\r\n\r\nname: a\r\n--\r\n\
                     --X\r\ncontent-disposition: form-data; name=other\r\n\r\n\r\n--X--\r\n";
        let parts = parts("multipart/form-data; boundary=\"X\"", body).unwrap();
        assert_eq!(parts[0].name, "file");
        assert_eq!(parts[0].body, b"name: a\r\n--");
        assert_eq!(
            (parts[1].name.as_str(), parts[1].body),
            ("other", b"".as_slice())
        );
    }

    #[test]
    fn what_is_no_form_is_refused() {
        let kind = "multipart/form-data; boundary=X";
        assert!(parts("multipart/form-data", b"--X--").is_err());
        assert!(parts(kind, b"").is_err());
        assert!(parts(kind, b"--X\r\n\r\n").is_err());
        assert_eq!(parts(kind, b"--X--").unwrap(), []);
        assert!(parts(kind, &b"--X\r\n".repeat(40)).is_err());
    }
}
