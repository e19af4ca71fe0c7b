//! Scenario files: TOML whose errors name the file, the line, the key and what is allowed. The `mesh`
//! command reads its own config file with it too.
//!
//! A document is parsed into a tree that remembers lines, overrides (`--set key=value`) are laid over
//! it, and each component reads its own [`Section`] of it. Reading records which keys exist, so that
//! [`Section::finish`] can refuse the others and say which would be known.

mod distribution;
mod error;
mod section;
mod tree;
mod units;

pub use error::ConfigError;
pub use section::{Section, Unit};
pub use tree::Document;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn document(text: &str) -> Document {
        Document::parse(text, "a.toml", Path::new("")).unwrap()
    }

    fn platform_error(text: &str) -> String {
        let document = document(text);
        let section = document.root().section("platform").unwrap().unwrap();
        crate::platform::Platform::read(&section).unwrap_err().to_string()
    }

    #[test]
    fn errors_name_line_key_and_what_is_allowed() {
        let head = "[platform]\n[[platform.hosts]]\nname = 'a'\n";
        let error = |line: &str| platform_error(&format!("{head}{line}\n"));
        assert_eq!(
            error("cores = 0"),
            "a.toml:4: platform.hosts.0.cores: 0 is out of range; allowed: a whole number from 1 to 4096"
        );
        assert_eq!(
            error("core = 4"),
            "a.toml:4: platform.hosts.0.core: unknown key; allowed: name, count, cores, speed, memory, \
             cache, start, access, uplink, churn, owner, stragglers, machine, liars"
        );
        assert_eq!(
            error("cache = 'hot'"),
            "a.toml:4: platform.hosts.0.cache: \"hot\" is unknown; allowed: cold, common, warm"
        );
        assert_eq!(
            error("access = { bandwidth = '100 Mbit' }"),
            "a.toml:4: platform.hosts.0.access.bandwidth: \"100 Mbit\"; allowed: bytes a second, or text \
             such as \"100 Mbit/s\", \"12 MB/s\""
        );
        assert_eq!(
            error("speed = { distribution = 'pareto', shape = 0.9, min = 1 }"),
            "a.toml:4: platform.hosts.0.speed.max: missing, and the mean is infinite; allowed: a value \
             above min"
        );
        assert_eq!(
            error("start = -1"),
            "a.toml:4: platform.hosts.0.start: -1 is out of range; allowed: seconds, or text such as \
             \"5 ms\", \"2 h\", \"1 d\", 0 or more"
        );
        assert_eq!(
            error("churn = { up = 5 }"),
            "a.toml:4: platform.hosts.0.churn.down: missing; allowed: seconds or a distribution; or the \
             key trace"
        );
        let syntax = Document::parse("a = 1\nb = = 2\n", "a.toml", Path::new("")).unwrap_err();
        assert!(syntax.to_string().starts_with("a.toml:2: "), "{syntax}");
    }

    #[test]
    fn texts_and_numbers_are_parsed_where_they_stand() {
        let mut document = document("a = 7\nb = '8'\nc = 1.5\nd = ['x', 'y']\ne = ['x', 1]\n");
        let root = document.root();
        let parse = |key| root.parsed(key, "a digit", |text| text.parse::<u8>());
        assert_eq!((parse("a"), parse("b"), parse("f")), (Ok(Some(7)), Ok(Some(8)), Ok(None)));
        assert_eq!(parse("c").unwrap_err().to_string(), "a.toml:3: c: a number; allowed: a digit");
        assert_eq!(root.texts("d", 2, ""), Ok(Some(vec!["x", "y"])));
        let mixed = root.texts("e", 2, "texts").unwrap_err().to_string();
        assert_eq!(mixed, "a.toml:5: e: an integer in the array; allowed: texts");
        let many = root.texts("d", 1, "one text").unwrap_err().to_string();
        assert_eq!(many, "a.toml:4: d: 2 of them; allowed: one text");
        assert_eq!((root.line("d"), root.line("f")), (Some(4), None));
        document.set("b=x").unwrap();
        let wrong = document.root().parsed("b", "a digit", |text| text.parse::<u8>()).unwrap_err();
        assert_eq!(wrong.to_string(), "--set: b: \"x\"; allowed: a digit");
        assert_eq!(document.root().line("b"), None);
    }

    #[test]
    fn overrides_reach_into_arrays_and_make_tables() {
        let mut document = document(
            "[platform]\nbackbone = { latency = 1 }\n[[platform.hosts]]\nname = 'a'\nspeed = 2\n",
        );
        for assignment in [
            "platform.hosts.0.count=7",
            "platform.hosts.0.speed.distribution=exponential",
            "platform.hosts.0.speed.mean = 3",
            "platform.backbone.bandwidth=1 Gbit/s",
        ] {
            document.set(assignment).unwrap();
        }
        let section = document.root().section("platform").unwrap().unwrap();
        let platform = crate::platform::Platform::read(&section).unwrap();
        assert_eq!(platform.groups[0].count, 7);
        assert_eq!(platform.groups[0].speed.mean(), 3.0);
        assert_eq!(platform.backbone.unwrap().bandwidth, 1.25e8);

        document.set("platform.hosts.0.cores=many").unwrap();
        let section = document.root().section("platform").unwrap().unwrap();
        let error = crate::platform::Platform::read(&section).unwrap_err().to_string();
        assert!(error.starts_with("--set: platform.hosts.0.cores: text"), "{error}");
        let error = document.set("platform.hosts.3.count=1").unwrap_err().to_string();
        assert_eq!(error, "--set: platform.hosts.3.count: no item 3; allowed: 0 to 0");
        assert!(document.set("platform").is_err());
        assert!(document.set("a..b=1").is_err());
    }
}
