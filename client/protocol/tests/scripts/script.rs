//! The text of a script: a heading, then blocks of commands and traces.

/// One scenario.
pub(crate) struct Script {
    /// The lines before the first command, each starting with `#`.
    heading: String,
    pub(crate) blocks: Vec<Block>,
}

/// Commands, and the trace that they must give.
pub(crate) struct Block {
    /// Comment lines before the commands.
    comment: String,
    pub(crate) commands: Vec<String>,
    pub(crate) expected: String,
}

impl Script {
    /// Blocks are separated by an empty line; in each, `---` stands between commands and trace.
    pub(crate) fn parse(text: &str) -> Result<Script, String> {
        let mut paragraphs = text.split("\n\n").map(str::trim_end).filter(|part| !part.is_empty());
        let heading = paragraphs.next().unwrap_or_default();
        if heading.is_empty() || !heading.lines().all(|line| line.starts_with('#')) {
            return Err("the first paragraph must say what the script shows".into());
        }
        let blocks = paragraphs.map(Block::parse).collect::<Result<_, _>>()?;
        Ok(Script { heading: heading.into(), blocks })
    }

    pub(crate) fn print(&self) -> String {
        let mut text = format!("{}\n", self.heading);
        for Block { comment, commands, expected } in &self.blocks {
            text += &format!("\n{comment}{}\n---\n{expected}", commands.join("\n"));
        }
        text
    }
}

impl Block {
    fn parse(text: &str) -> Result<Block, String> {
        let mut lines = text.lines().peekable();
        let mut comment = String::new();
        while let Some(line) = lines.next_if(|line| line.starts_with('#')) {
            comment += &format!("{line}\n");
        }
        let commands: Vec<String> =
            lines.by_ref().take_while(|line| *line != "---").map(String::from).collect();
        if commands.is_empty() {
            return Err(format!("a block without commands: {text:?}"));
        }
        let expected = lines.map(|line| format!("{line}\n")).collect();
        Ok(Block { comment, commands, expected })
    }
}
