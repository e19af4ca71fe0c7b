//! The files of a random project, and the trial that builds it.
//!
//! A step numbered 7 writes only files whose names begin with `s7`, unless make runs one command at
//! a time. So what is there in the end depends on no order.

use std::fmt::Write as _;

use mesh_tests::Trial;

use super::plan::{Change, Edit, Kind, Plan, Source, Step, Wrap};

/// The trial of a plan: it is built, edited, and built twice more.
pub(super) fn trial(plan: &Plan) -> Trial {
    let command = format!("make {}", plan.flags.text);
    let mut trial = Trial::of(&[]).builds(&[command.as_str()]).fix(&edit(plan));
    for (path, text) in files(plan) {
        trial = trial.file(&path, &text);
    }
    if plan.flags.tears() {
        trial = trial.in_pieces();
    } else if plan.flags.at_once {
        trial = trial.in_any_order();
    }
    // A compiler's words and its object come together to whoever waits for both.
    if plan.steps.iter().any(|step| step.wrap == Wrap::ToLog) {
        trial = trial.times_vary();
    }
    trial
}

/// All of a plan, for whoever has to understand a failure.
pub(super) fn text(plan: &Plan) -> String {
    let mut text = format!("make {}; then: {}\n", plan.flags.text, edit(plan));
    for (path, content) in files(plan) {
        if !path.starts_with("fixed/") {
            let _ = write!(text, "--- {path}\n{content}");
        }
    }
    text
}

fn files(plan: &Plan) -> Vec<(String, String)> {
    let mut files =
        vec![("Makefile".to_owned(), makefile(plan)), ("log".to_owned(), String::new())];
    for step in &plan.steps {
        let n = step.number;
        files.push((step.source_path(), source(plan, step, step.source)));
        files.push((format!("fixed/s{n}.c"), source(plan, step, Source::Good)));
        for aside in &step.aside {
            let removed = matches!(aside.change, Change::Remove | Change::Rename);
            let ending = if removed { "pre" } else { "keep" };
            let kept = (
                format!("s{n}.{ending}"),
                format!(
                    "{ending} {n}
"
                ),
            );
            if !files.contains(&kept) {
                files.push(kept);
            }
        }
        if step.kind == Kind::Recurse {
            files.push((format!("s{n}.in/other.c"), format!("int other{n};\n")));
            files.push((format!("s{n}.in/Makefile"), inner_makefile(step)));
        }
    }
    files
}

fn inner_makefile(step: &Step) -> String {
    let (options, prefix) = (step.options, step.prefix);
    let rule = |name: &str, prefix: &str| {
        format!("{name}.o: {name}.c\n\t{prefix}gcc {options} -c {name}.c -o {name}.o\n")
    };
    format!("all: in.o other.o\n{}{}", rule("in", prefix), rule("other", ""))
}

fn makefile(plan: &Plan) -> String {
    let targets: Vec<String> = plan.steps.iter().map(Step::target).collect();
    let mut text = format!("all: {}\n.PHONY: all", targets.join(" "));
    for step in plan.steps.iter().filter(|step| step.phony) {
        let _ = write!(text, " {}", step.target());
    }
    text += "\n";
    if plan.delete_on_error {
        text += ".DELETE_ON_ERROR:\n";
    }
    for step in &plan.steps {
        let needs: String = plan.needs_of(step).map(|need| format!(" {}", need.target())).collect();
        let after = plan.steps.iter().find(|other| Some(other.number) == step.after);
        let after = after.map_or(String::new(), |after| format!(" | {}", after.target()));
        let _ = writeln!(text, "{}: {}{needs}{after}", step.target(), step.source_path());
        for line in recipe(plan, step) {
            let _ = writeln!(text, "\t{line}");
        }
    }
    if plan.steps.iter().any(|step| step.options == "-MMD") {
        text += "-include $(wildcard *.d)\n";
    }
    text
}

impl Plan {
    /// Those that are still there of the steps that this one needs.
    fn needs_of<'a>(&'a self, step: &'a Step) -> impl Iterator<Item = &'a Step> {
        step.needs.iter().filter_map(|need| self.step(*need))
    }

    fn step(&self, number: usize) -> Option<&Step> {
        self.steps.iter().find(|step| step.number == number)
    }
}

impl Step {
    fn target(&self) -> String {
        let ending = match self.kind {
            Kind::Compile | Kind::Generate => ".o",
            Kind::Link => ".exe",
            Kind::Archive => ".a",
            Kind::Header => ".h",
            Kind::Stamp => ".stamp",
            Kind::Question => ".have",
            Kind::Preprocess => ".i",
            Kind::Copy => ".copy",
            Kind::SoftLink => ".link",
            Kind::Sizes => ".sizes",
            Kind::Run => ".ran",
            Kind::Recurse => ".sub",
        };
        format!("s{}{ending}", self.number)
    }

    fn source_path(&self) -> String {
        match self.kind {
            Kind::Recurse => format!("s{}.in/in.c", self.number),
            _ => format!("s{}.c", self.number),
        }
    }

    /// Does it define a function named like the step, for those that link it?
    fn defines(&self) -> bool {
        matches!(self.kind, Kind::Compile | Kind::Generate | Kind::Archive)
    }

    /// A compiler's call, with what this step has around it.
    fn call(&self, call: &str) -> String {
        let (n, prefix) = (self.number, self.prefix);
        let wrapped = match self.wrap {
            Wrap::None => call.to_owned(),
            Wrap::OrTrue => format!("{call} || true"),
            Wrap::If => format!("if {call}; then echo yes > s{n}.if; else echo no > s{n}.if; fi"),
            Wrap::Pipe => format!("{call} 2>&1 | cat"),
            Wrap::ToLog => format!("{call} > s{n}.words 2>&1"),
            Wrap::Background => format!("{call} & wait $$!"),
        };
        format!("{prefix}{wrapped}")
    }
}

fn recipe(plan: &Plan, step: &Step) -> Vec<String> {
    let change = |first: bool| {
        let asides = step.aside.iter().filter(move |aside| aside.first == first);
        asides.map(|aside| changing(plan, step, aside.change))
    };
    change(true).chain(making(plan, step)).chain(change(false)).collect()
}

/// The lines that make a step's target.
fn making(plan: &Plan, step: &Step) -> Vec<String> {
    let n = step.number;
    let options = step.options;
    let compile = |object: &str| step.call(&format!("gcc {options} -c s{n}.c -o {object}"));
    let needed: Vec<String> = plan.needs_of(step).map(Step::target).collect();
    let mut linked: Vec<String> =
        plan.needs_of(step).filter(|need| need.defines()).map(Step::target).collect();
    // Objects first: what they define is not taken from an archive that holds them, too.
    linked.sort_by_key(|target| target.ends_with(".a"));
    let linked = linked.join(" ");
    let generator = step.call(&format!("gcc {options} s{n}.c -o s{n}.gen"));
    match step.kind {
        Kind::Compile => vec![compile("$@")],
        Kind::Link => vec![step.call(&format!("gcc {options} s{n}.c {linked} -o $@"))],
        Kind::Archive => {
            let objects = linked.split(' ').filter(|object| object.ends_with(".o"));
            let objects: Vec<&str> = objects.collect();
            let archive = format!("ar rc $@ s{n}.own.o {}", objects.join(" "));
            vec![compile(&format!("s{n}.own.o")), archive]
        }
        Kind::Header => vec![generator, format!("./s{n}.gen > $@")],
        Kind::Generate => {
            let made = format!("./s{n}.gen > s{n}.made.c");
            vec![generator, made, format!("gcc {options} -c s{n}.made.c -o $@")]
        }
        Kind::Stamp => vec![compile(&format!("s{n}.own.o")), "touch $@".to_owned()],
        Kind::Question => vec![format!(
            "{}if gcc {options} -c s{n}.c -o s{n}.own.o; then echo HAVE > $@; else echo NOT > $@; fi",
            step.prefix
        )],
        Kind::Preprocess => vec![format!("gcc -E s{n}.c | sed s/return/return/ > $@")],
        Kind::Copy => vec![format!("cat s{n}.c {} > $@", needed.join(" "))],
        Kind::SoftLink => match needed.first() {
            Some(first) => vec![format!("ln -sf {first} $@")],
            None => vec![compile(&format!("s{n}.own.o")), format!("ln -sf s{n}.own.o $@")],
        },
        Kind::Sizes => vec![
            compile(&format!("s{n}.own.o")),
            format!("stat -L -c '%n %s' s{n}.own.o {} > $@", needed.join(" ")),
        ],
        Kind::Run => {
            let programs = needed.iter().filter(|target| target.ends_with(".exe"));
            let runs = programs.map(|program| format!("./{program} >> $@"));
            std::iter::once(": > $@".to_owned()).chain(runs).collect()
        }
        Kind::Recurse => vec![format!("$(MAKE) -C s{n}.in"), "touch $@".to_owned()],
    }
}

/// A line that changes something beside a step's target. Done twice, it ends as done once.
fn changing(plan: &Plan, step: &Step, change: Change) -> String {
    let n = step.number;
    match change {
        Change::Append => format!("echo {n} >> s{n}.keep"),
        Change::Remove => format!("rm -f s{n}.pre"),
        Change::Rename => format!("[ ! -e s{n}.pre ] || mv s{n}.pre s{n}.post"),
        Change::RenameOver => format!("echo new > s{n}.new; mv s{n}.new s{n}.keep"),
        Change::HardLink => format!("ln -f s{n}.keep s{n}.hard"),
        Change::SymbolicLink => format!("ln -sf s{n}.keep s{n}.soft"),
        Change::Mode => format!("chmod 640 s{n}.keep"),
        Change::Time => format!("touch -d '2001-02-03 04:05:06' s{n}.keep"),
        Change::Directory => format!("mkdir -p s{n}.dir/e; echo {n} > s{n}.dir/e/f"),
        Change::Truncate => format!("truncate -s 2 s{n}.keep"),
        Change::InPlace => format!("sed -i s/keep/kept/ s{n}.keep"),
        Change::CopyArchive => format!("cp -a s{n}.keep s{n}.kept"),
        Change::RemoveNeeded => match plan.needs_of(step).next() {
            Some(need) => format!("rm -f {}", need.target()),
            None => ":".to_owned(),
        },
        Change::AppendToAll => format!("echo {n} >> log"),
        Change::Fail => "exit 3".to_owned(),
    }
}

fn source(plan: &Plan, step: &Step, source: Source) -> String {
    let n = step.number;
    let defect = match source {
        Source::Good => String::new(),
        Source::Warns => format!("int w{n}(int x) {{ int unused; return x; }}\n"),
        Source::Syntax => format!("int e{n}(\n"),
        Source::MissingHeader => "#include \"nowhere.h\"\n".to_owned(),
        Source::HashError => format!("#error broken {n}\n"),
        Source::Undefined => format!("int gone(void);\nint u{n}(void) {{ return gone(); }}\n"),
    };
    format!("{}{defect}", body(plan, step))
}

fn body(plan: &Plan, step: &Step) -> String {
    let n = step.number;
    let headers: Vec<&Step> =
        plan.needs_of(step).filter(|need| need.kind == Kind::Header).collect();
    let mut text: String =
        headers.iter().map(|header| format!("#include \"{}\"\n", header.target())).collect();
    let mut value = n.to_string();
    for header in headers {
        let _ = write!(value, " + V{}", header.number);
    }
    let prints = |text: &str| {
        format!("#include <stdio.h>\nint main(void) {{ return puts(\"{text}\") < 0; }}\n")
    };
    match step.kind {
        Kind::Link => {
            for linked in plan.needs_of(step).filter(|need| need.defines()) {
                let _ = writeln!(text, "int s{}(void);", linked.number);
                let _ = write!(value, " + s{}()", linked.number);
            }
            text + &format!(
                "#include <stdio.h>\nint main(void) {{ return printf(\"%d\\n\", {value}) < 0; }}\n"
            )
        }
        Kind::Header => text + &prints(&format!("#define V{n} {n}")),
        Kind::Generate => text + &prints(&format!("int s{n}(void) {{ return {n}; }}")),
        Kind::Recurse => format!("int s{n};\n"),
        _ => text + &format!("int s{n}(void) {{ return {value}; }}\n"),
    }
}

/// The edit as a line of shell.
fn edit(plan: &Plan) -> String {
    let fix = |step: &Step| format!("cp fixed/s{}.c {}", step.number, step.source_path());
    let on = |number: &usize, line: &dyn Fn(&Step) -> String| {
        plan.step(*number).map_or("true".to_owned(), line)
    };
    match &plan.edit {
        Edit::None => "true".to_owned(),
        Edit::FixAll => {
            let bad = plan.steps.iter().filter(|step| step.source.is_bad());
            bad.map(|step| fix(step) + "; ").collect::<String>() + "true"
        }
        Edit::Fix(step) => on(step, &fix),
        Edit::Break(step) => {
            on(step, &|step| format!("echo 'int e{}(' >> {}", step.number, step.source_path()))
        }
        Edit::Change(step) => {
            on(step, &|step| format!("echo 'int c{};' >> {}", step.number, step.source_path()))
        }
        Edit::Touch(step) => on(step, &|step| format!("touch {}", step.source_path())),
        Edit::Delete(step) => on(step, &|step| format!("rm -f {}", step.target())),
    }
}
