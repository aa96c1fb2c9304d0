use super::{Address, BlockSize, Period, ShareName, Size};

#[test]
fn sizes_and_periods_print_what_they_read() {
    for text in ["64 MiB", "3 KiB", "1 GiB", "0 B", "1000 B"] {
        assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
    }
    assert_eq!("64 MB".parse(), Ok(Size(64_000_000)));
    assert_eq!("12".parse(), Ok(Size(12)));
    for text in ["50ms", "30s", "1h", "1h 30m"] {
        assert_eq!(text.parse::<Period>().unwrap().to_string(), text);
    }
    assert!("64 parsecs".parse::<Size>().is_err());
    assert!("soon".parse::<Period>().is_err());
}

#[test]
fn an_address_has_a_host_and_a_port() {
    for good in ["127.0.0.1:0", "[::1]:7440", "back-up.example:65535"] {
        assert_eq!(good.parse::<Address>().unwrap().as_str(), good);
    }
    for bad in [
        "", "7440", ":7440", "h:", "h:65536", "h:+1", "::1:7440", "[x]:1", "a b:1", "h\n:1",
    ] {
        assert!(bad.parse::<Address>().is_err(), "{bad}");
    }
}

#[test]
fn a_share_is_one_plain_component_and_a_block_a_power_of_two() {
    assert!("photos-2026_ä".parse::<ShareName>().is_ok());
    for bad in [
        "",
        ".",
        "..",
        ".syncd",
        "a/b",
        "a b",
        "a\nb",
        &"x".repeat(65),
    ] {
        assert!(bad.parse::<ShareName>().is_err(), "{bad}");
    }
    assert_eq!("64 KiB".parse(), Ok(BlockSize::Fixed(65536)));
    assert_eq!("auto".parse(), Ok(BlockSize::Auto));
    for bad in ["2 KiB", "2 MiB", "5000", "automatic"] {
        assert!(bad.parse::<BlockSize>().is_err(), "{bad}");
    }
}
