//! What a component may take to be compiled.

/// Limits of the work that one component makes for the compiler, which cannot be interrupted.
///
/// They are checked before a component is compiled, and are the same for all components of an engine. The defaults have room for several
/// times of what components need that carry an engine for JavaScript or Python: the numbers below are of such components.
///
/// ```
/// use frame_dispatch::wasm::{ComponentLimits, WasmConfig, WasmEngine, WasmError};
///
/// # let component = frame_guests::guest("echo");
/// let limits = ComponentLimits::default().with_functions(2);
/// let engine = WasmEngine::builder().component_limits(limits).build()?;
/// let refused = engine.function(&component, WasmConfig::default()).unwrap_err();
/// assert!(matches!(refused, WasmError::TooComplex { setting: "functions", limit: 2, .. }));
/// # Ok::<(), WasmError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ComponentLimits {
    /// Bytes of the binary, and bytes of the memory images that the compiler makes of its data. A component of Python has 18 MiB.
    /// Default: 128 MiB.
    pub size: usize,
    /// Levels of components that are defined in, or instantiated by, each other; one component alone is one level. Default: 32.
    pub depth: u32,
    /// Instances of components and of core modules, each counted as often as it is made. A component of Python has 16.
    /// Default: 1 000.
    pub instances: u64,
    /// Types and named items. A type counts with all types that it consists of wherever it is used, and all of it once more for
    /// each instance. A component of Python has 87 000. Default: 1 000 000.
    pub definitions: u64,
    /// Functions of core modules, and functions between components and the program. A component of Python has 13 500. Default:
    /// 50 000.
    pub functions: u64,
    /// Operators of one function, where a call counts as five. What the compiler takes longer for than there are operators is
    /// added: a quarter of the number of blocks times the number of locals, because each local can have a value of its own in
    /// each block; for each operator a 256th of the values that are there at the time, and sixteen for each value beyond 64
    /// that it passes; and for each block a 128th of the blocks before it. A component of Python has a function of less than
    /// 180 000. Default: 500 000.
    pub function_work: u64,
    /// The same of all functions together. A component of JavaScript has 6 100 000. Default: 50 000 000.
    pub work: u64,
}

impl Default for ComponentLimits {
    fn default() -> Self {
        Self {
            size: 128 << 20,
            depth: 32,
            instances: 1_000,
            definitions: 1_000_000,
            functions: 50_000,
            function_work: 500_000,
            work: 50_000_000,
        }
    }
}

impl ComponentLimits {
    /// Sets [`size`](Self::size).
    #[must_use]
    pub const fn with_size(mut self, size: usize) -> Self {
        self.size = size;
        self
    }

    /// Sets [`depth`](Self::depth). The compiler is made for no more than 100 levels, which is the largest value that has an effect.
    #[must_use]
    pub const fn with_depth(mut self, depth: u32) -> Self {
        self.depth = if depth > Self::DEEPEST { Self::DEEPEST } else { depth };
        self
    }

    /// Sets [`instances`](Self::instances).
    #[must_use]
    pub const fn with_instances(mut self, instances: u64) -> Self {
        self.instances = instances;
        self
    }

    /// Sets [`definitions`](Self::definitions).
    #[must_use]
    pub const fn with_definitions(mut self, definitions: u64) -> Self {
        self.definitions = definitions;
        self
    }

    /// Sets [`functions`](Self::functions).
    #[must_use]
    pub const fn with_functions(mut self, functions: u64) -> Self {
        self.functions = functions;
        self
    }

    /// Sets [`function_work`](Self::function_work).
    #[must_use]
    pub const fn with_function_work(mut self, function_work: u64) -> Self {
        self.function_work = function_work;
        self
    }

    /// Sets [`work`](Self::work).
    #[must_use]
    pub const fn with_work(mut self, work: u64) -> Self {
        self.work = work;
        self
    }

    /// The walk over instances goes as deep as this by recursion.
    const DEEPEST: u32 = 100;
}
