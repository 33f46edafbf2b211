//! Programs of a seed. Each ends by itself, and returns a text that does not depend on addresses, hashes or the clock.

use std::fmt::Write;

use fastrand::Rng;

/// What every program begins with.
const PRELUDE: &str = include_str!("prelude.lua");

/// A program in Lua.
pub(super) struct Program {
    pub(super) source: String,
    /// Plain Lua does the same: it has no functions of the host, and does not yield in functions that C code calls back.
    pub(super) is_plain: bool,
}

/// Returns the program of a seed.
pub(super) fn program(seed: u64) -> Program {
    let mut rng = Rng::with_seed(seed);
    let is_plain = rng.bool();
    let mut generator = Generator {
        rng,
        text: PRELUDE.to_owned(),
        indent: 0,
        names: 0,
        scope: Vec::new(),
        is_plain,
        is_pure: false,
        is_coroutine: false,
        is_vararg: false,
        loops: 0,
        functions: 0,
        left: 0,
    };
    generator.main();
    Program { source: generator.text, is_plain }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Text,
    List,
    /// A table with metamethods.
    Object,
    Function,
    Coroutine,
    /// What `coroutine.wrap` returns.
    Wrapped,
    /// Anything, such as the argument of a function.
    Any,
}

struct Variable {
    kind: Kind,
    name: String,
    is_constant: bool,
}

#[allow(clippy::struct_excessive_bools, reason = "each is a place that statements depend on")]
struct Generator {
    rng: Rng,
    text: String,
    indent: usize,
    names: usize,
    scope: Vec<Variable>,
    is_plain: bool,
    /// In a function that plain Lua's C code calls back: it does nothing that may yield.
    is_pure: bool,
    is_coroutine: bool,
    is_vararg: bool,
    /// How many loops of the current function are around.
    loops: usize,
    /// How many functions are around.
    functions: usize,
    /// How many statements the current part has left.
    left: usize,
}

impl Generator {
    fn line(&mut self, line: &str) {
        let indent = self.indent;
        let _ = writeln!(self.text, "{:indent$}{line}", "");
    }

    fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.rng.usize(0..n) == 0
    }

    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.rng.usize(0..choices.len())]
    }

    /// One of the words of a text.
    fn word<'a>(&mut self, words: &'a str) -> &'a str {
        let count = words.split_whitespace().count();
        words.split_whitespace().nth(self.rng.usize(0..count)).unwrap_or_default()
    }

    fn declare(&mut self, kind: Kind, name: &str, is_constant: bool) {
        self.scope.push(Variable { kind, name: name.to_owned(), is_constant });
    }

    fn variable(&mut self, kind: Kind) -> Option<String> {
        let count = self.scope.iter().filter(|it| it.kind == kind).count();
        if count == 0 {
            return None;
        }
        let index = self.rng.usize(0..count);
        self.scope.iter().filter(|it| it.kind == kind).nth(index).map(|it| it.name.clone())
    }

    fn assignable(&mut self, kind: Kind) -> Option<String> {
        let matches = |it: &&Variable| it.kind == kind && !it.is_constant;
        let count = self.scope.iter().filter(matches).count();
        if count == 0 {
            return None;
        }
        let index = self.rng.usize(0..count);
        self.scope.iter().filter(matches).nth(index).map(|it| it.name.clone())
    }

    // Expressions ------------------------------------------------------------------------------------------------

    fn number(&mut self, depth: usize) -> String {
        if depth == 0 || self.one_in(4) {
            if let (true, Some(name)) = (self.rng.bool(), self.variable(Kind::Number)) {
                return name;
            }
            let literals = "0 1 2 3 -1 7 10 0.5 -2.5 1e15 255 math.maxinteger math.mininteger (1/0) \"10\" 2^53 3.0 \
                            -0.0";
            return self.word(literals).to_owned();
        }
        let d = depth - 1;
        match self.rng.u8(0..26) {
            0..=4 => {
                let operator =
                    self.pick(&["+", "-", "*", "/", "//", "%", "+", "-", "*", "+", "-", "*", "&", "<<", "^"]);
                format!("({} {operator} {})", self.number(d), self.number(d))
            }
            5 => format!("({}{})", self.pick(&["- ", "~ "]), self.number(d)),
            6 => format!("#{}", self.text_expression(d)),
            7 => match self.variable(Kind::List) {
                Some(list) if self.rng.bool() => format!("#{list}"),
                Some(list) => format!("num({list}[{}])", self.rng.u8(1..6)),
                None => self.number(d),
            },
            8 => {
                let function = self.word("math.floor math.ceil math.abs math.tointeger math.sqrt tonumber");
                format!("num({function}({}))", self.number(d))
            }
            9 => {
                let function = self.word("math.max math.min math.fmod");
                format!("{function}({}, {})", self.number(d), self.number(d))
            }
            10 if self.is_vararg => {
                format!("select({}, ...)", self.word("\"#\" 1 -1 2 \"#\""))
            }
            11 => self.call(d, true),
            12 => format!("num({})", self.object_operation(d)),
            13 => format!("num({}:byte({}))", self.bracketed_text(d), self.rng.i8(-3..4)),
            14 => {
                let pattern = self.pattern();
                format!("num({}:find({pattern}))", self.bracketed_text(d))
            }
            15 => format!("({} and {} or {})", self.condition(d), self.number(d), self.number(d)),
            16 if self.is_coroutine && !self.is_pure => {
                format!("num(coroutine.yield({}))", self.arguments(d))
            }
            17 | 18 if !self.is_plain => format!("num({})", self.host_call(d)),
            19 => format!("num(utf8.len({}))", self.text_expression(d)),
            20 => match self.variable(Kind::Any) {
                Some(name) => format!("num({name})"),
                None => self.number(d),
            },
            21 => {
                format!("num(tonumber({}, {}))", self.text_expression(d), self.word("10 16 36 2"))
            }
            22 => {
                let pattern = self.pattern();
                format!("select(2, {}:gsub({pattern}, {}))", self.bracketed_text(d), self.replacement(d))
            }
            // Of the wrong kind.
            23 if self.one_in(3) => self.any(d),
            _ => self.number(d),
        }
    }

    fn host_call(&mut self, depth: usize) -> String {
        let function = self.word("now later later fails nowhere");
        format!(
            "call(\"fuzz:{function}\", {})",
            if self.rng.bool() { self.number(depth) } else { self.text_expression(depth) }
        )
    }

    fn condition(&mut self, depth: usize) -> String {
        let d = depth.saturating_sub(1);
        match self.rng.u8(0..12) {
            0 | 1 => self.word("true false nil").to_owned(),
            2..=5 => {
                let operator = self.word("< <= > >= == ~=");
                format!("{} {operator} {}", self.number(d), self.number(d))
            }
            6 => {
                let operator = self.word("< <= == ~=");
                format!("{} {operator} {}", self.text_expression(d), self.text_expression(d))
            }
            7 if depth > 0 => format!("not ({})", self.condition(d)),
            8 if depth > 0 => {
                format!("(({}) {} ({}))", self.condition(d), self.word("and or"), self.condition(d))
            }
            9 => match (self.object(), self.object()) {
                (Some(left), Some(right)) => {
                    let operator = self.word("< <= == ~= > >=");
                    let right = if self.one_in(3) { self.number(d) } else { right };
                    format!("{left} {operator} {right}")
                }
                _ => "true".to_owned(),
            },
            10 => {
                format!("type({}) == \"{}\"", self.any(d), self.word("number string table nil"))
            }
            // Plain Lua cannot yield there.
            _ if self.is_pure => "true".to_owned(),
            _ => format!("coroutine.isyieldable() == {}", self.word("true false")),
        }
    }

    fn text_expression(&mut self, depth: usize) -> String {
        if depth == 0 || self.one_in(4) {
            if let (true, Some(name)) = (self.rng.bool(), self.variable(Kind::Text)) {
                return name;
            }
            let literals = [
                "\"\"",
                "\"a\"",
                "\"hello world\"",
                "\"k=v, x=y\"",
                "\"%d\"",
                "\"añb\"",
                "\"0x10\"",
                "\" 12 \"",
                "\"aaaaaaaaab\"",
                "\"((x)(y))\"",
                "\"\\0\\1\\n\"",
            ];
            return self.pick(&literals).to_owned();
        }
        let d = depth - 1;
        match self.rng.u8(0..22) {
            0..=2 => format!("({} .. {})", self.text_expression(d), self.text_expression(d)),
            3 => {
                format!("({} .. {} .. {})", self.text_expression(d), self.number(d), self.text_expression(d))
            }
            4 => {
                format!("{}:sub({}, {})", self.bracketed_text(d), self.rng.i8(-4..5), self.rng.i8(-4..8))
            }
            5 => format!("{}:rep({})", self.bracketed_text(d), self.rng.i8(-1..4)),
            6 => {
                format!("{}:{}()", self.bracketed_text(d), self.word("upper lower reverse len"))
            }
            7 => format!("text({})", self.any(d)),
            8 => format!("type({})", self.any(d)),
            9 => {
                let directive = self.word("%d %5.1f %q %s %x %-5s| %g %c %% %y");
                let value = match directive {
                    "%q" | "%s" | "%-5s|" => self.text_expression(d),
                    _ => self.number(d),
                };
                format!("format(\"<{directive}>\", {value})")
            }
            10 => match self.variable(Kind::List) {
                Some(list) => {
                    format!(
                        "table.concat({list}, {}{})",
                        self.text_expression(d),
                        self.pick(&["", ", 1", ", 1, 2"])
                    )
                }
                None => self.text_expression(d),
            },
            11..=14 => {
                let pattern = self.pattern();
                let limit = self.pick(&["", "", ", 1", ", 2", ", 0"]);
                format!("({}:gsub({pattern}, {}{limit}))", self.bracketed_text(d), self.replacement(d))
            }
            15 | 16 => {
                let pattern = self.pattern();
                format!("({}:match({pattern}) or \"none\")", self.bracketed_text(d))
            }
            17 => match self.object() {
                Some(object) if !self.is_pure => {
                    format!("text({object} .. {})", self.text_expression(d))
                }
                _ => self.text_expression(d),
            },
            18 => match self.variable(Kind::Coroutine) {
                Some(co) => format!("coroutine.status({co})"),
                None => self.text_expression(d),
            },
            19 => match self.object() {
                Some(object) => format!("tostring({object}):sub(1, 4)"),
                None => self.text_expression(d),
            },
            20 => {
                let call = self.call(d, false);
                format!("text({call})")
            }
            _ => format!("utf8.char({})", self.rng.u16(1..0x2000)),
        }
    }

    /// Text that can be followed by `:`.
    fn bracketed_text(&mut self, depth: usize) -> String {
        format!("({})", self.text_expression(depth))
    }

    fn pattern(&mut self) -> String {
        let mut pattern = String::new();
        if self.one_in(6) {
            pattern.push('^');
        }
        let mut open = 0;
        for _ in 0..self.rng.usize(1..5) {
            if self.one_in(5) {
                pattern.push('(');
                open += 1;
            }
            let items = [
                "a", ".", "%a", "%w", "%s", "%d", "[ab]", "[^a]", "[a-z]", "%p", "o", "l", "%b()", "%f[%w]",
                "%1", "%", "()", "[", "[%a_]", "=",
            ];
            // The faulty ones less often.
            let end = if self.one_in(8) { items.len() } else { 14 };
            let item = self.pick(&items[..end]);
            pattern.push_str(item);
            if !item.starts_with("%b") && !item.starts_with("%f") && item != "()" {
                let suffix = self.pick(&["", "", "*", "+", "-", "?"]);
                pattern.push_str(suffix);
            }
            if open > 0 && self.rng.bool() {
                pattern.push(')');
                open -= 1;
            }
        }
        if !self.one_in(12) {
            for _ in 0..open {
                pattern.push(')');
            }
        }
        if self.one_in(8) {
            pattern.push('$');
        }
        format!("\"{pattern}\"")
    }

    /// The third argument of `gsub`.
    fn replacement(&mut self, depth: usize) -> String {
        match self.rng.u8(0..7) {
            0 => "\"<%0>\"".to_owned(),
            1 => self.word("\"%1\" \"%%\" \"\" \"%2\" \"%\"").to_owned(),
            2 => "{ a = \"A\", o = 1, l = false, hello = \"bye\" }".to_owned(),
            3 if !self.is_pure => match self.object() {
                Some(object) => object,
                None => "\"-\"".to_owned(),
            },
            _ => self.callback(depth, "a, b", &[Kind::Any, Kind::Any]),
        }
    }

    /// A function on one line, which C code of plain Lua calls back.
    fn callback(&mut self, depth: usize, parameters: &str, kinds: &[Kind]) -> String {
        let was_pure = self.is_pure;
        self.is_pure |= self.is_plain;
        let (was_vararg, loops) = (std::mem::take(&mut self.is_vararg), std::mem::take(&mut self.loops));
        let height = self.scope.len();
        for (name, kind) in parameters.split(", ").zip(kinds) {
            self.declare(*kind, name, true);
        }
        let mut body = String::new();
        if self.one_in(3) {
            let _ = write!(body, "log({}) ", self.any(depth));
        }
        if self.one_in(8) {
            let _ = write!(body, "if {} then error({}) end ", self.condition(depth), self.any(depth));
        }
        if self.one_in(4) && !self.is_pure && self.is_coroutine {
            let _ = write!(body, "coroutine.yield({}) ", self.any(depth));
        }
        let result = match self.rng.u8(0..6) {
            0 => "nil".to_owned(),
            1 => self.any(depth),
            2 => self.number(depth),
            _ => self.text_expression(depth),
        };
        self.scope.truncate(height);
        (self.is_pure, self.is_vararg, self.loops) = (was_pure, was_vararg, loops);
        format!("function({parameters}) {body}return {result} end")
    }

    /// A function in C where mostly one in Lua is.
    fn c_function(&mut self) -> Option<String> {
        if self.is_pure {
            return None;
        }
        match self.variable(Kind::Wrapped) {
            Some(wrapped) if self.rng.bool() => Some(wrapped),
            _ => Some(
                self.word("pcall coroutine.yield select rawequal coroutine.wrap type coroutine.running")
                    .to_owned(),
            ),
        }
    }

    /// A call whose callback is a function in C, or whose function is.
    fn c_call(&mut self) -> String {
        let Some(function) = self.c_function() else { return self.number(1) };
        let value = self.any(1);
        match self.rng.u8(0..9) {
            0 => format!("pcall(pcall, {function}, {value})"),
            1 => format!("pcall(xpcall, {function}, text, {value})"),
            2 => format!("pcall(coroutine.wrap({function}), {value})"),
            3 => format!("coroutine.resume(coroutine.create({function}), {value})"),
            4 => format!("xpcall(error, {function}, {value})"),
            // Plain Lua cannot yield there.
            5 if !self.is_plain => format!("pcall(string.gsub, \"abc\", \".\", {function})"),
            6 if !self.is_plain => format!("pcall(table.sort, {{ 3, 1, 2 }}, {function})"),
            7 if !self.is_plain => {
                format!("pcall(coroutine.wrap(string.gsub), \"a b c\", \"%a\", {function})")
            }
            8 if !self.is_plain => format!("pcall(load, {function})"),
            _ => format!("pcall({function}, {value})"),
        }
    }

    fn object(&mut self) -> Option<String> {
        // Metamethods may do anything.
        if self.is_pure { None } else { self.variable(Kind::Object) }
    }

    fn object_operation(&mut self, depth: usize) -> String {
        let Some(object) = self.object() else { return self.number(depth) };
        match self.rng.u8(0..12) {
            0..=3 => {
                let operator = self.word("+ - * / // % & | ~ << >> ^ ..");
                let other =
                    if self.one_in(3) { self.object().unwrap_or_default() } else { self.number(depth) };
                if self.rng.bool() {
                    format!("({object} {operator} {other})")
                } else {
                    format!("({other} {operator} {object})")
                }
            }
            4 => format!("({}{object})", self.word("- ~ #")),
            5 => format!("{object}.{}", self.word("x y z")),
            6 => format!("{object}[{}]", self.number(depth)),
            7 => format!("{object}({})", self.arguments(depth)),
            8 => format!("{object}:m({})", self.arguments(depth)),
            9 => format!("select(\"#\", table.unpack({object}, 1, 3))"),
            10 => format!("table.concat({object}, \",\")"),
            _ => format!("rawlen({object})"),
        }
    }

    fn call(&mut self, depth: usize, is_number: bool) -> String {
        if self.is_pure {
            return self.number(depth);
        }
        let callee = match self.rng.u8(0..4) {
            0 => self.variable(Kind::Wrapped),
            _ => self.variable(Kind::Function),
        };
        let Some(callee) = callee else { return self.number(depth) };
        let call = format!("{callee}({})", self.arguments(depth));
        if is_number { format!("num({call})") } else { call }
    }

    fn arguments(&mut self, depth: usize) -> String {
        let mut arguments = Vec::new();
        for _ in 0..self.rng.usize(0..3) {
            arguments.push(self.any(depth));
        }
        if self.is_vararg && self.one_in(4) {
            arguments.push("...".to_owned());
        } else if self.one_in(8) {
            arguments.push(self.call(depth, false));
        }
        arguments.join(", ")
    }

    fn any(&mut self, depth: usize) -> String {
        match self.rng.u8(0..12) {
            0..=3 => self.number(depth),
            4..=6 => self.text_expression(depth),
            7 => self.list(depth),
            8 => self.word("nil true false").to_owned(),
            9 => self.object().unwrap_or_else(|| "nil".to_owned()),
            10 => self.variable(Kind::List).unwrap_or_else(|| "{}".to_owned()),
            _ => match self.variable(Kind::Any) {
                Some(name) => name,
                None => self.number(depth),
            },
        }
    }

    fn list(&mut self, depth: usize) -> String {
        if depth == 0 {
            return "{ 3, 1, 2 }".to_owned();
        }
        let d = depth - 1;
        match self.rng.u8(0..5) {
            0 if self.is_vararg => self.pick(&["{ ... }", "table.pack(...)", "{ 1, ... }"]).to_owned(),
            1 => format!("{{ {}, x = {}, {} }}", self.number(d), self.number(d), self.text_expression(d)),
            2 if !self.is_pure => format!("{{ {}, {} }}", self.number(d), self.call(d, false)),
            3 => format!(
                "table.move({{ 1, 2, 3, 4, 5, 6, 7 }}, {}, {}, {}, {{}})",
                self.rng.u8(1..3),
                self.rng.u8(1..8),
                self.rng.u8(1..4)
            ),
            _ => {
                let items: Vec<_> = (0..self.rng.usize(0..5)).map(|_| self.number(d)).collect();
                format!("{{ {} }}", items.join(", "))
            }
        }
    }

    /// Numbers, none of them twice.
    fn permutation(&mut self) -> String {
        let mut numbers: Vec<_> = (1..=self.rng.usize(2..14)).collect();
        self.rng.shuffle(&mut numbers);
        let numbers: Vec<_> = numbers.iter().map(ToString::to_string).collect();
        format!("{{ {} }}", numbers.join(", "))
    }

    // Statements -------------------------------------------------------------------------------------------------

    fn block(&mut self, statements: usize) {
        let height = self.scope.len();
        self.indent += 2;
        for _ in 0..statements {
            if self.left == 0 {
                break;
            }
            self.left -= 1;
            self.statement();
        }
        if self.functions > 0 && self.one_in(5) {
            // Last in its block.
            let value = self.any(2);
            match self.rng.u8(0..6) {
                0 if self.loops > 0 => self.line("break"),
                1 if self.is_vararg => self.line("return ..."),
                2 => {
                    let call = self.call(2, false);
                    self.line(&format!("return {call}"));
                }
                3 => self.raise(),
                _ => self.line(&format!("return {value}")),
            }
        }
        self.indent -= 2;
        self.scope.truncate(height);
    }

    fn nested(&mut self) {
        let statements = self.rng.usize(1..4);
        self.block(statements);
    }

    fn body(&mut self) {
        self.loops += 1;
        self.nested();
        self.loops -= 1;
    }

    /// The rest of a function, after its parameters' opening parenthesis.
    fn function(&mut self, kinds: &[Kind], is_coroutine: Option<bool>, statements: usize) {
        let height = self.scope.len();
        let mut names: Vec<_> = kinds
            .iter()
            .map(|kind| {
                let name = self.name("p");
                self.declare(*kind, &name, false);
                name
            })
            .collect();
        let is_vararg = self.one_in(3);
        if is_vararg {
            names.push("...".to_owned());
        }
        let _ = writeln!(self.text, "{})", names.join(", "));
        let outer = (self.is_vararg, self.is_coroutine, self.loops);
        self.is_vararg = is_vararg;
        self.is_coroutine = is_coroutine.unwrap_or(self.is_coroutine);
        self.loops = 0;
        self.functions += 1;
        self.indent += 2;
        self.line("if spent() then return end");
        self.indent -= 2;
        self.block(statements);
        self.functions -= 1;
        (self.is_vararg, self.is_coroutine, self.loops) = outer;
        self.scope.truncate(height);
    }

    fn begin(&mut self, text: &str) {
        let indent = self.indent;
        let _ = write!(self.text, "{:indent$}{text}", "");
    }

    fn raise(&mut self) {
        let value = self.any(1);
        let line = match self.rng.u8(0..7) {
            0 => format!("error({}, {})", self.text_expression(1), self.rng.u8(0..4)),
            1 => "error({ n = 1, \"raised\" })".to_owned(),
            2 => "error()".to_owned(),
            3 => format!("assert({}, {value})", self.condition(1)),
            4 => "local _ = nil + 1".to_owned(),
            5 => "local t = nil; t.x = 1".to_owned(),
            _ => format!("error({value})"),
        };
        self.line(&line);
    }

    fn statement(&mut self) {
        if self.functions > 5 || self.loops > 3 {
            let value = self.any(2);
            return self.line(&format!("log({value})"));
        }
        match self.rng.u8(0..46) {
            0..=3 => {
                let arguments = self.arguments(3);
                self.line(&format!("log({arguments})"));
            }
            4..=7 => self.local(),
            8..=10 => self.assign(),
            11 | 12 => self.conditional(),
            13..=16 => self.repeat(),
            17..=19 => self.protected(),
            20 | 21 => self.function_statement(),
            22..=24 => self.coroutine(),
            25..=27 => self.resume(),
            28 | 29 if self.is_coroutine && !self.is_pure => {
                let arguments = self.arguments(2);
                let function = self.pick(&["log", "num", "select(\"#\", "]);
                let open = if function.ends_with(' ') { "" } else { "(" };
                self.line(&format!("{function}{open}coroutine.yield({arguments}))"));
            }
            30 | 31 => self.closing(),
            32 => {
                let condition = self.condition(2);
                self.line(&format!("if {condition} then"));
                self.indent += 2;
                self.raise();
                self.indent -= 2;
                self.line("end");
            }
            33 | 34 => self.sort(),
            35 | 36 => self.list_function(),
            37 => self.load(),
            38 | 39 => self.substitute(),
            40 if !self.is_plain => {
                let call = self.host_call(1);
                self.line(&format!("log({})", format_args!("pcall(call, {}", &call[5..])));
            }
            41 => self.metatable(),
            43 => {
                let call = self.c_call();
                self.line(&format!("log({call})"));
            }
            42 => {
                self.line("do");
                self.nested();
                self.line("end");
            }
            _ => {
                let call = self.call(2, false);
                self.line(&format!("log({call})"));
            }
        }
    }

    fn local(&mut self) {
        match self.rng.u8(0..6) {
            0..=2 => {
                let (name, value) = (self.name("n"), self.number(3));
                let is_constant = self.one_in(5);
                self.line(&format!("local {name}{} = {value}", if is_constant { " <const>" } else { "" }));
                self.declare(Kind::Number, &name, is_constant);
            }
            3 => {
                let (name, value) = (self.name("s"), self.text_expression(3));
                self.line(&format!("local {name} = {value}"));
                self.declare(Kind::Text, &name, false);
            }
            4 => {
                let (name, value) = (self.name("t"), self.list(2));
                self.line(&format!("local {name} = {value}"));
                self.declare(Kind::List, &name, false);
            }
            _ => {
                let (a, b, value) = (self.name("a"), self.name("a"), self.call(2, false));
                self.line(&format!("local {a}, {b} = {value}"));
                self.declare(Kind::Any, &a, false);
                self.declare(Kind::Any, &b, false);
            }
        }
    }

    fn assign(&mut self) {
        match self.rng.u8(0..6) {
            0 => {
                if let Some(name) = self.assignable(Kind::Number) {
                    let value = self.number(3);
                    self.line(&format!("{name} = {value}"));
                }
            }
            1 => {
                if let Some(name) = self.assignable(Kind::Text) {
                    let value = self.text_expression(3);
                    self.line(&format!("{name} = {value}"));
                }
            }
            2 => {
                if let Some(list) = self.variable(Kind::List) {
                    let (index, value) = (self.rng.u8(1..7), self.number(2));
                    self.line(&format!("{list}[{index}] = {value}"));
                }
            }
            3 => {
                if let Some(object) = self.object() {
                    let (key, value) = (self.word("x y [1] [2]"), self.number(2));
                    let dot = if key.starts_with('[') { "" } else { "." };
                    self.line(&format!("{object}{dot}{key} = {value}"));
                }
            }
            4 => {
                if let (Some(a), Some(b)) = (self.assignable(Kind::Number), self.assignable(Kind::Number)) {
                    self.line(&format!("{a}, {b} = {b}, {a}"));
                }
            }
            _ => {
                let (name, value) = (self.word("G1 G2"), self.number(2));
                self.line(&format!("{name} = {value}"));
                self.line(&format!("log({name})"));
            }
        }
    }

    fn conditional(&mut self) {
        let condition = self.condition(2);
        self.line(&format!("if {condition} then"));
        self.nested();
        if self.one_in(3) {
            let condition = self.condition(2);
            self.line(&format!("elseif {condition} then"));
            self.nested();
        }
        if self.rng.bool() {
            self.line("else");
            self.nested();
        }
        self.line("end");
    }

    fn repeat(&mut self) {
        let times = self.rng.u8(1..5);
        let height = self.scope.len();
        let variable = self.name("i");
        match self.rng.u8(0..9) {
            0 | 1 => {
                let range = self.pick(&[
                    "1, 4",
                    "3, 1, -1",
                    "1, 2, 0.5",
                    "1, 0",
                    "math.maxinteger - 1, math.maxinteger",
                    "1.0, 3",
                    "1, 2, 0",
                    "-1, 1",
                ]);
                self.line(&format!("for {variable} = {range} do"));
                self.line("  if spent() then break end");
                self.declare(Kind::Number, &variable, false);
                self.body();
                self.line("end");
            }
            2 => {
                self.line(&format!("local {variable} = 0"));
                let condition = self.condition(1);
                self.line(&format!("while {variable} < {times} and ({condition}) and not spent() do"));
                self.line(&format!("  {variable} = {variable} + 1"));
                self.body();
                self.line("end");
            }
            3 => {
                self.line(&format!("local {variable} = 0"));
                self.line("repeat");
                self.line(&format!("  {variable} = {variable} + 1"));
                self.line(&format!("  local last{variable} = {variable} >= {times}"));
                self.line("  do");
                self.body();
                self.line("  end");
                self.line(&format!("until last{variable} or spent()"));
            }
            4 => {
                let label = self.name("again");
                self.line(&format!("do local {variable} = 0 ::{label}:: {variable} = {variable} + 1"));
                self.line("do");
                self.loops += 1;
                let loops = std::mem::take(&mut self.loops);
                self.nested();
                self.loops = loops - 1;
                self.line("end");
                self.line(&format!("if {variable} < {times} and not spent() then goto {label} end end"));
            }
            5 => {
                let list = self.list(2);
                let iterator = self.word("ipairs pairs");
                let list = if iterator == "pairs" { self.permutation() } else { list };
                self.line(&format!("for _, {variable} in {iterator}({list}) do"));
                self.line("  if spent() then break end");
                self.declare(Kind::Any, &variable, false);
                self.body();
                self.line("end");
            }
            6 => {
                let (text, pattern) = (self.text_expression(2), self.pattern());
                self.line(&format!("for {variable} in string.gmatch({text}, {pattern}) do"));
                self.line("  if spent() then break end");
                self.declare(Kind::Any, &variable, false);
                self.body();
                self.line("end");
            }
            7 => {
                self.begin(&format!("for {variable} in coroutine.wrap(function("));
                let statements = self.rng.usize(1..5);
                self.function(&[], Some(true), statements);
                self.line("end) do");
                self.line("  if spent() then break end");
                self.declare(Kind::Any, &variable, false);
                self.body();
                self.line("end");
            }
            _ => {
                // With `__index` or `__pairs`.
                if let Some(object) = self.object() {
                    let iterator = self.word("ipairs pairs");
                    self.line(&format!("for _, {variable} in {iterator}({object}) do"));
                    self.line("  if spent() then break end");
                    self.declare(Kind::Any, &variable, false);
                    self.body();
                    self.line("end");
                } else {
                    let skip = self.name("skip");
                    self.line(&format!("for {variable} = 1, {times} do"));
                    self.line(&format!("  if spent() or {variable} == 2 then goto {skip} end"));
                    self.line("  do");
                    self.body();
                    self.line("  end");
                    self.line(&format!("  ::{skip}::"));
                    self.line("end");
                }
            }
        }
        self.scope.truncate(height);
    }

    fn protected(&mut self) {
        let statements = self.rng.usize(1..5);
        if self.rng.bool() {
            self.begin("log(pcall(function(");
            self.function(&[Kind::Any], None, statements);
            let arguments = self.any(1);
            self.line(&format!("end, {arguments}))"));
        } else {
            self.begin("log(xpcall(function(");
            self.function(&[Kind::Any], None, statements);
            let handler = match self.rng.u8(0..6) {
                0 => "function(e) error(\"again\") end".to_owned(),
                1 => "function(e) return e, 1 end".to_owned(),
                2 => "function() return nil end".to_owned(),
                3 => "text".to_owned(),
                4 => "function(e) return select(2, pcall(error, e)) end".to_owned(),
                _ => "function(e) log(\"handler\", e) return { e, n = 5 } end".to_owned(),
            };
            let arguments = self.any(1);
            self.line(&format!("end, {handler}, {arguments}))"));
        }
    }

    fn function_statement(&mut self) {
        let name = self.name("f");
        if self.rng.bool() {
            self.begin(&format!("local {name} = function("));
        } else {
            // It does not call itself: it is declared once it is complete.
            self.begin(&format!("local function {name}("));
        }
        let statements = self.rng.usize(1..5);
        // Coroutines call it, too.
        let may_yield = self.is_coroutine || self.one_in(3);
        self.function(&[Kind::Any, Kind::Number], Some(may_yield), statements);
        self.line("end");
        self.declare(Kind::Function, &name, true);
    }

    fn coroutine(&mut self) {
        let is_wrapped = self.rng.bool();
        let name = self.name("c");
        self.begin(&format!(
            "local {name} = coroutine.{}(function(",
            if is_wrapped { "wrap" } else { "create" }
        ));
        let statements = self.rng.usize(1..6);
        self.function(&[Kind::Any, Kind::Number], Some(true), statements);
        self.line("end)");
        self.declare(if is_wrapped { Kind::Wrapped } else { Kind::Coroutine }, &name, true);
    }

    fn resume(&mut self) {
        if self.is_pure {
            return;
        }
        if self.one_in(3)
            && let Some(wrapped) = self.variable(Kind::Wrapped)
        {
            let arguments = self.any(1);
            return self.line(&format!("log(pcall({wrapped}, {arguments}))"));
        }
        let Some(co) = self.variable(Kind::Coroutine) else { return };
        match self.rng.u8(0..8) {
            0 => self.line(&format!("log(coroutine.status({co}), coroutine.isyieldable({co}))")),
            1 => self.line(&format!("log(pcall(coroutine.close, {co}))")),
            2 => self.line("log(select(2, coroutine.running()))"),
            3 => {
                self.line(&format!("while not spent() and coroutine.status({co}) ~= \"dead\" do"));
                self.line(&format!("  log(coroutine.resume({co}))"));
                self.line("end");
            }
            _ => {
                let arguments = self.arguments(2);
                let comma = if arguments.is_empty() { "" } else { ", " };
                self.line(&format!("log(coroutine.resume({co}{comma}{arguments}))"));
            }
        }
    }

    fn closing(&mut self) {
        if self.one_in(6) {
            let name = self.name("z");
            let value = self.word("nil false {}");
            return self.line(&format!("local {name} <close> = {value}"));
        }
        let name = self.name("z");
        self.begin(&format!("local {name} <close> = closer(function("));
        let statements = self.rng.usize(0..4);
        self.function(&[Kind::Any, Kind::Any], None, statements);
        self.line("end)");
    }

    fn sort(&mut self) {
        let name = self.name("t");
        if self.is_plain {
            let list = self.permutation();
            self.line(&format!("local {name} = {list}"));
            let less = self.pick(&["", ", function(a, b) return a > b end", ", nil"]);
            self.line(&format!("table.sort({name}{less})"));
        } else {
            let list = match self.object() {
                Some(object) if self.one_in(3) => object,
                Some(object) if self.one_in(3) => format!("{{ {object}, {object}, 1, {object} }}"),
                _ if self.one_in(3) => self.list(2),
                _ => self.permutation(),
            };
            self.line(&format!("local {name} = {list}"));
            let less = match self.rng.u8(0..5) {
                0 => String::new(),
                1 => ", function(a, b) return a > b end".to_owned(),
                2 => ", function(a, b) coroutine.yield(a) return a < b end".to_owned(),
                3 => ", function(a, b) call(\"fuzz:later\", 1) return a < b end".to_owned(),
                _ => format!(", {}", self.callback(1, "a, b", &[Kind::Any, Kind::Any])),
            };
            self.line(&format!("log(pcall(table.sort, {name}{less}))"));
        }
        self.line(&format!("log({name})"));
        self.declare(Kind::List, &name, true);
    }

    fn list_function(&mut self) {
        let list = match (self.object(), self.variable(Kind::List)) {
            (Some(object), _) if self.one_in(3) => object,
            (_, Some(list)) => list,
            _ => return,
        };
        let value = self.any(1);
        let index = self.rng.i8(-1..8);
        let line = match self.rng.u8(0..8) {
            0 => format!("table.insert({list}, {value})"),
            1 => format!("table.insert({list}, {index}, {value})"),
            2 => format!("log(table.remove({list}))"),
            3 => format!("log(table.remove({list}, {index}))"),
            4 => format!("table.move({list}, 1, {}, {index})", self.rng.u8(1..8)),
            5 => format!("log(table.unpack({list}, {index}))"),
            // Plain Lua moves in another order if `__eq` says that the tables are the same, which shows where there are holes.
            6 if !self.is_plain => format!("log(table.move({list}, {index}, 5, 2, {{ 9, 8 }}))"),
            _ => format!("log(#{list}, next({{}}), rawlen({list}))"),
        };
        self.line(&line);
    }

    fn load(&mut self) {
        let name = self.name("l");
        let source = match self.rng.u8(0..4) {
            0 => "\"return n + x\"".to_owned(),
            1 => "\"local a = ... for i = 1, 3 do a = a + i end return a\"".to_owned(),
            2 => "\"return +\"".to_owned(),
            _ => {
                let parts = self.name("parts");
                self.line(&format!("local {parts} = {{ \"return \", \"1 + \", \"n\" }}"));
                let effect = match self.rng.u8(0..5) {
                    _ if self.is_plain => String::new(),
                    0 => "coroutine.yield(1) ".to_owned(),
                    1 => "call(\"fuzz:later\", 1) ".to_owned(),
                    2 => format!("if #{parts} == 1 then error(\"no more\") end "),
                    3 => "log(#out) ".to_owned(),
                    _ => String::new(),
                };
                format!("function() {effect}return table.remove({parts}, 1) end")
            }
        };
        let environment = self.pick(&[", { n = 5, x = 2 }", ", nil", ""]);
        self.line(&format!("local {name}, e{name} = load({source}, \"=loaded\", \"t\"{environment})"));
        let argument = self.number(1);
        self.line(&format!("log(e{name}, {name} and pcall({name}, {argument}))"));
    }

    fn substitute(&mut self) {
        let (text, pattern) = match self.rng.u8(0..5) {
            // The result does not fit into the buffer on the stack.
            0 => ("(\"ab \"):rep(400)".to_owned(), self.word("\"%a+\" \"(a)(b)\" \"%s()\"").to_owned()),
            _ => (self.text_expression(2), self.pattern()),
        };
        let was_pure = self.is_pure;
        self.is_pure |= self.is_plain;
        self.begin(&format!("log(pcall(string.gsub, {text}, {pattern}, function("));
        let statements = self.rng.usize(1..4);
        self.function(&[Kind::Any, Kind::Any], None, statements);
        self.is_pure = was_pure;
        self.line("end))");
    }

    /// Objects with random metamethods. Their bodies use objects that were there before only, so that they do not recurse.
    fn metatable(&mut self) {
        if self.functions > 2 {
            return;
        }
        let meta = self.name("m");
        self.line(&format!("local {meta} = {{}}"));
        let all = "__index __newindex __call __add __sub __mul __div __idiv __mod __pow __band __bor __bxor __shl \
                   __shr __unm __bnot __concat __len __eq __lt __le __tostring __pairs __close";
        for _ in 0..self.rng.usize(2..9) {
            let event = self.word(all);
            if self.one_in(8)
                && let Some(function) = self.c_function()
            {
                self.line(&format!("{meta}.{event} = {function}"));
                continue;
            }
            self.begin(&format!("{meta}.{event} = function("));
            let statements = self.rng.usize(0..4);
            let may_yield = self.is_coroutine || self.one_in(3);
            self.function(&[Kind::Any, Kind::Any, Kind::Any], Some(may_yield), statements);
            let was_vararg = std::mem::take(&mut self.is_vararg);
            // Mostly what it should be.
            let result = match event {
                "__len" => self.rng.u8(0..5).to_string(),
                "__tostring" => self.text_expression(1),
                "__pairs" => "next, { 7, 8 }, nil".to_owned(),
                _ => self.any(1),
            };
            self.is_vararg = was_vararg;
            // What the block ends with may be a `return`.
            self.text.truncate(self.text.trim_end().len());
            self.text.push('\n');
            if self.ends_in_a_last_statement() {
                self.line("end");
            } else {
                self.line(&format!("  return {result}"));
                self.line("end");
            }
            if event == "__len" {
                self.line(&format!("{meta}.__len = length({meta}.__len)"));
            }
        }
        if self.one_in(4) {
            self.line(&format!(
                "{meta}.__index = {{ x = 5, m = function(...) return select(\"#\", ...) end }}"
            ));
        }
        if self.one_in(8) {
            self.line(&format!("{meta}.__metatable = \"locked\""));
        }
        for _ in 0..self.rng.usize(1..3) {
            let (name, fields) = (self.name("o"), self.list(1));
            self.line(&format!("local {name} = setmetatable({fields}, {meta})"));
            self.declare(Kind::Object, &name, true);
        }
    }

    fn ends_in_a_last_statement(&self) -> bool {
        let last = self.text.trim_end().lines().next_back().unwrap_or_default().trim_start();
        last.starts_with("return") || last == "break"
    }

    fn main(&mut self) {
        self.is_vararg = true;
        self.line("local function main(...)");
        self.indent += 2;
        for _ in 0..2 {
            self.left = 12;
            self.metatable();
        }
        for _ in 0..self.rng.usize(2..4) {
            self.left = 12;
            self.function_statement();
        }
        for _ in 0..self.rng.usize(1..3) {
            self.left = 12;
            self.coroutine();
        }
        for part in 0..self.rng.usize(3..8) {
            self.left = 25;
            let is_coroutine = self.rng.bool();
            let wrap = if is_coroutine { ("coroutine.wrap(", ")") } else { ("", "") };
            self.begin(&format!("try({part}, {}function(", wrap.0));
            let statements = self.rng.usize(3..8);
            self.function(&[Kind::Any, Kind::Number], Some(is_coroutine), statements);
            self.line(&format!("end{}, \"p\", 3)", wrap.1));
        }
        self.indent -= 2;
        self.line("end");
        self.line("try(\"main\", main, 1, \"x\", nil)");
        self.line("return concat(out, \"\\n\")");
    }
}
