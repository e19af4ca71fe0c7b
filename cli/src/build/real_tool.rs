//! How the caller of an interposed tool becomes the tool itself.

use std::io::Read;
use std::path::Path;

use super::binding::below;
use super::site::Site;
use super::wire::{RealTool, Request, Scrub};

/// What is needed of a call to let the real tool take it over.
#[derive(Debug)]
pub(super) struct Caller {
    /// `argv[0]`.
    called: String,
    /// Is the interposer bound over the tool, or is it a link of ours?
    is_bound: bool,
    /// Its `PATH`.
    path: Option<String>,
}

impl Caller {
    pub(super) fn of(request: &Request) -> Self {
        Self {
            called: request.arguments.first().cloned().unwrap_or_default(),
            is_bound: request.file.is_some(),
            path: request.environment.get("PATH").cloned(),
        }
    }

    /// The tool at `program` with the words of this call. The tools that a compiler starts itself
    /// are not interposed: it has decided to run here. A script may call others, and those are.
    pub(super) fn become_tool(self, site: &Site, program: &str, is_watched: bool) -> RealTool {
        let path = Path::new(program);
        // Bound over what is called, the interposer would meet itself.
        let hidden = site
            .binding
            .as_ref()
            .filter(|binding| std::fs::metadata(path).is_ok_and(|found| binding.covers(&found)));
        let hidden =
            hidden.and_then(|binding| Some(below(binding.real(), &path.canonicalize().ok()?)));
        // A compiler finds its parts by its name. Our links are not where the compiler is; any other
        // path, and a bare name, lead to it.
        let keeps_name = self.is_bound || !self.called.contains('/');
        let name = (!keeps_name).then(|| program.to_owned());
        let scrub = (!is_script(path)).then(|| Scrub { path: self.path_without_links(site) });
        RealTool { file: hidden.unwrap_or_else(|| path.to_owned()), name, scrub, is_watched }
    }

    /// `PATH` without the directory of links that led here.
    fn path_without_links(&self, site: &Site) -> Option<String> {
        let (path, links) = (self.path.as_ref()?, site.links.as_ref()?);
        if self.is_bound {
            return None;
        }
        let others = path.split(':').filter(|place| Path::new(place) != links);
        Some(others.collect::<Vec<_>>().join(":"))
    }
}

fn is_script(program: &Path) -> bool {
    let mut head = [0; 2];
    let read = std::fs::File::open(program).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && head == *b"#!"
}
