//! Where Kinesis is: a region, or the endpoint of another server.

use std::net::IpAddr;

use triton_core::{Error, Result};

/// Where streams are when nothing says so: as in older Tritons.
pub(super) const DEFAULT_REGION: &str = "us-east-1";

pub(super) fn check_region(region: &str) -> Result<()> {
    let is_name = !region.is_empty() && region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    match is_name {
        true => Ok(()),
        false => Err(Error::Invalid { problem: format!("'{}' is no AWS region", region.escape_debug()) }),
    }
}

pub(super) fn check_endpoint(url: &str, allow_insecure: bool) -> Result<()> {
    let no_url = || Error::Invalid { problem: format!("endpoint '{}' is no http or https URL", url.escape_debug()) };
    let parsed: http::Uri = url.parse().map_err(|_| no_url())?;
    let host = parsed.host().ok_or_else(no_url)?;
    match parsed.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if allow_insecure || is_loopback(host) => Ok(()),
        Some("http") => Err(Error::Invalid {
            problem: format!("endpoint {url} is plain HTTP to another machine, where anybody on the way reads along"),
        }),
        _ => Err(no_url()),
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_stays_on_this_machine_unless_told_otherwise() {
        for fine in ["https://kinesis.example", "http://localhost:4567", "http://127.0.0.9", "http://[::1]:4567/"] {
            assert!(check_endpoint(fine, false).is_ok(), "{fine}");
        }
        for insecure in ["http://kinesis.example", "http://10.0.0.1:4567", "http://localhost.example"] {
            let error = check_endpoint(insecure, false).unwrap_err();
            assert!(error.to_string().contains("plain HTTP"), "{error}");
            assert!(check_endpoint(insecure, true).is_ok(), "{insecure}");
        }
        for wrong in ["", "localhost:4567", "ftp://localhost", "http://", "/tmp"] {
            assert!(check_endpoint(wrong, true).unwrap_err().to_string().contains("no http or https URL"), "{wrong}");
        }
    }

    #[test]
    fn a_region_is_a_name() {
        assert!(check_region("eu-west-1").is_ok());
        for wrong in ["", "eu west", "eu-west-1.example.com/", "x\n"] {
            assert!(check_region(wrong).is_err(), "{wrong:?}");
        }
    }
}
