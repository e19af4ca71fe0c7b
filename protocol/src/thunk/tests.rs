//! What holds for every thunk: one name for one content, and only rules kept.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::path::AbsPath;

fn path(text: &str) -> AbsPath {
    text.parse().unwrap()
}

fn spec() -> ThunkSpec {
    ThunkSpec {
        function: Function {
            executable: path("/bin/t"),
            arguments: vec!["t".to_owned()],
            environment: BTreeMap::new(),
            working_directory: path("/w"),
        },
        inputs: BTreeMap::from([(path("/bin/t"), Input::executable(ValueName::of(b"program")))]),
        symlinks: BTreeMap::new(),
        directories: BTreeSet::new(),
        outputs: BTreeMap::from([("out".parse().unwrap(), Output::required(path("/w/out")))]),
        stdin: None,
        limits: Limits::for_platform(Platform::X86_64Linux),
    }
}

fn refused(change: impl FnOnce(&mut ThunkSpec)) -> ThunkError {
    let mut spec = spec();
    change(&mut spec);
    Thunk::try_from(spec).unwrap_err()
}

/// These bytes are on people's disks: a change here is a new version of the format.
#[test]
fn the_bytes_are_pinned() {
    let thunk = Thunk::try_from(spec()).unwrap();
    let (name, bytes) = thunk.encode().unwrap();
    let program = ValueName::of(b"program").digest().sha256;
    let wanted = [
        b"\x89MTHUNK\x01".as_slice(),
        b"\x06/bin/t\x01\x01t\x00\x02/w", // executable, arguments, environment, directory
        b"\x01\x06/bin/t\x00",            // one input: a value
        &program,
        b"\x07\x01",                         // its length, and: executable
        b"\x00\x00",                         // no symlinks, no directories
        b"\x01\x03out\x06/w/out\x01\x00",    // one output, required, not dynamic
        b"\x00",                             // no standard input
        b"\xfc\x00\x5c\x26\x05\x00\x01\x00", // a day in ms, no memory bound, one core, x86-64
    ];
    assert_eq!(bytes, wanted.concat());
    assert_eq!(name, ThunkName::of(&bytes));
    assert_eq!(Thunk::decode(&bytes).unwrap(), thunk);
}

#[test]
fn paths_do_not_collide() {
    let file = || Input::file(ValueName::of(b"x"));
    let with_input = |at: &str| {
        let at = path(at);
        move |spec: &mut ThunkSpec| {
            spec.inputs.insert(at, file());
        }
    };
    assert!(matches!(refused(with_input("/bin/t/below")), ThunkError::Overlap { .. }));
    assert!(matches!(refused(with_input("/w/out/below")), ThunkError::Overlap { .. }));
    assert!(matches!(refused(with_input("/")), ThunkError::Root(_)));
    let twice = refused(|spec| {
        spec.symlinks.insert(path("/bin/t"), "elsewhere".to_owned());
    });
    assert!(matches!(twice, ThunkError::Duplicate(_)));
    let outputs = refused(|spec| {
        spec.outputs.insert("again".parse().unwrap(), Output::optional(path("/w/out")));
    });
    assert!(matches!(outputs, ThunkError::Duplicate(_)));
    // A tree may have others laid over it, and a file may be changed in place.
    let mut laid_over = spec();
    laid_over.inputs.insert(AbsPath::root(), Input::tree(ValueName::of(b"tree")));
    laid_over.outputs.insert("self".parse().unwrap(), Output::required(path("/bin/t")));
    assert!(Thunk::try_from(laid_over).is_ok());
}

#[test]
fn what_no_machine_can_run_is_refused() {
    assert_eq!(refused(|spec| spec.function.arguments.clear()), ThunkError::NoArguments);
    assert_eq!(refused(|spec| spec.outputs.clear()), ThunkError::NoOutputs);
    assert_eq!(refused(|spec| spec.limits.cpus = 0), ThunkError::Limit("cpus"));
    assert_eq!(refused(|spec| spec.limits.timeout_ms = 0), ThunkError::Limit("timeout_ms"));
    let zero = refused(|spec| spec.function.arguments.push("a\0b".to_owned()));
    assert!(matches!(zero, ThunkError::Argument(_)));
    let long = refused(|spec| spec.function.arguments.push("x".repeat(limits::ARGUMENT_BYTES + 1)));
    assert!(matches!(long, ThunkError::TooMany { .. }));
    let variable = refused(|spec| {
        spec.function.environment.insert("A=B".to_owned(), String::new());
    });
    assert!(matches!(variable, ThunkError::Argument(_)));
}

#[test]
fn json_says_what_is_wrong() {
    for (json, part) in [
        ("{", "EOF"),
        (r#"{"function": {"executable": "/t", "arguments": ["t"]}}"#, "outputs"),
        (r#"{"function": {"executable": "t", "arguments": ["t"]}, "outputs": {}}"#, "not absolute"),
        (
            r#"{"function": {"executable": "/t", "arguments": ["t"]}, "outputs": {"o": "/o"}, "x": 1}"#,
            "`x`",
        ),
        (
            r#"{"function": {"executable": "/t", "arguments": ["t"], "environment": {"A": "1", "A": "2"}}, "outputs": {"o": "/o"}}"#,
            "A is given twice",
        ),
        (
            r#"{"function": {"executable": "/t", "arguments": ["t"]}, "outputs": {"o": "/o", "o": "/p"}}"#,
            "o is given twice",
        ),
        (
            r#"{"function": {"executable": "/t", "arguments": ["t"]}, "outputs": {"o": {"path": "/o", "optional": true}}}"#,
            "and nothing else",
        ),
    ] {
        let error = Thunk::from_json(json).unwrap_err().to_string();
        assert!(error.contains(part), "{json}: {error}");
    }
}

fn any_path() -> impl Strategy<Value = AbsPath> {
    proptest::collection::vec("[a-c.]{1,2}[a-z ]", 1..4)
        .prop_map(|parts| path(&format!("/{}", parts.join("/"))))
}

fn any_source() -> impl Strategy<Value = Source> {
    (any::<u8>(), any::<bool>(), "[a-z]{1,3}").prop_map(|(seed, value, tag)| match value {
        true => Source::Value(ValueName::of(&[seed])),
        false => {
            Source::Output(OutputRef { thunk: ThunkName::of(&[seed]), tag: tag.parse().unwrap() })
        }
    })
}

fn any_input() -> impl Strategy<Value = Input> {
    let modes = [InputMode::File, InputMode::Executable, InputMode::Tree];
    (any_source(), proptest::sample::select(modes.to_vec()))
        .prop_map(|(source, mode)| Input { source, mode })
}

type Parts = (
    Vec<(AbsPath, Input)>,
    Vec<(AbsPath, String)>,
    Vec<AbsPath>,
    Vec<(String, AbsPath)>,
    Option<Source>,
);

fn any_parts() -> impl Strategy<Value = Parts> {
    (
        proptest::collection::vec((any_path(), any_input()), 0..6),
        proptest::collection::vec((any_path(), "[a-z/]{1,6}"), 0..3),
        proptest::collection::vec(any_path(), 0..3),
        proptest::collection::vec(("[a-z]{1,4}", any_path()), 1..4),
        proptest::option::of(any_source()),
    )
}

fn build(parts: Parts) -> Result<Thunk, ThunkError> {
    let (inputs, symlinks, directories, outputs, stdin) = parts;
    let output = |(tag, at): (String, AbsPath)| (tag.parse().unwrap(), Output::optional(at));
    Thunk::try_from(ThunkSpec {
        inputs: inputs.into_iter().collect(),
        symlinks: symlinks.into_iter().collect(),
        directories: directories.into_iter().collect(),
        outputs: outputs.into_iter().map(output).collect(),
        stdin,
        ..spec()
    })
}

proptest! {
    #[test]
    fn encoding_and_json_are_the_identity(parts in any_parts()) {
        if let Ok(thunk) = build(parts) {
            let (name, bytes) = thunk.encode().unwrap();
            let decoded = Thunk::decode(&bytes).unwrap();
            prop_assert_eq!(decoded.encode().unwrap().0, name);
            prop_assert_eq!(&decoded, &thunk);
            prop_assert_eq!(&Thunk::from_json(&thunk.to_json(false).unwrap()).unwrap(), &thunk);
        }
    }

    #[test]
    fn equal_thunks_and_only_they_have_equal_names(one in any_parts(), two in any_parts()) {
        if let (Ok(one), Ok(two)) = (build(one), build(two)) {
            let names = (one.encode().unwrap().0, two.encode().unwrap().0);
            prop_assert_eq!(one == two, names.0 == names.1);
        }
    }

    #[test]
    fn the_order_of_building_leaves_no_trace(parts in any_parts()) {
        // Of two entries for one path the later would win, so only distinct ones are turned round.
        let distinct = {
            let mut seen = BTreeSet::new();
            let tags: BTreeSet<_> = parts.3.iter().map(|(tag, _)| tag).collect();
            parts.0.iter().map(|(at, _)| at).chain(parts.1.iter().map(|(at, _)| at)).all(|at| seen.insert(at))
                && tags.len() == parts.3.len()
        };
        if distinct {
            let mut turned = parts.clone();
            turned.0.reverse();
            turned.1.reverse();
            turned.2.reverse();
            turned.3.reverse();
            prop_assert_eq!(build(parts), build(turned));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), flip: u8) {
        let _ = Thunk::decode(&bytes);
        let mut good = Thunk::try_from(spec()).unwrap().encode().unwrap().1;
        let at = at.index(good.len());
        good[at] ^= flip;
        if let Ok(thunk) = Thunk::decode(&good) {
            prop_assert_eq!(thunk.encode().unwrap().1, good, "only canonical bytes decode");
        }
        bytes.splice(0..0, THUNK_FORMAT.magic);
        let _ = Thunk::decode(&bytes);
        let _ = Reduction::decode(&bytes);
    }
}
