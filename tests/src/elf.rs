//! A look into the file of a program, before any of its code runs.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;

use object::read::elf::{ElfFile64, ProgramHeader};
use object::{Endianness, Object, ObjectSection, ObjectSymbol, RelocationTarget, elf};

/// An ELF program, or shared library, as it is on disk.
#[derive(Debug)]
pub struct Program {
    bytes: Vec<u8>,
    /// What the loader adds to a word when it relocates it: by address, the address it will hold.
    pointers: BTreeMap<u64, u64>,
}

impl Program {
    /// Reads a file.
    ///
    /// # Panics
    ///
    /// If it is not a 64-bit ELF file.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        let bytes = fs::read(path).expect("the file is there");
        let pointers = ElfFile64::<Endianness>::parse(&*bytes)
            .expect("an ELF file")
            .dynamic_relocations()
            .into_iter()
            .flatten()
            .filter(|(_, relocation)| relocation.target() == RelocationTarget::Absolute)
            .map(|(address, relocation)| (address, relocation.addend().cast_unsigned()))
            .collect();
        Self { bytes, pointers }
    }

    fn elf(&self) -> ElfFile64<'_, Endianness> {
        ElfFile64::parse(&*self.bytes).expect("parsed before")
    }

    /// The address of a symbol.
    #[must_use]
    pub fn symbol(&self, name: &str) -> Option<u64> {
        let elf = self.elf();
        elf.symbols()
            .find(|symbol| symbol.name() == Ok(name) && symbol.is_definition())
            .map(|symbol| symbol.address())
    }

    /// The names that a shared library exports.
    #[must_use]
    pub fn exports(&self) -> Vec<String> {
        let elf = self.elf();
        let defined = elf.dynamic_symbols().filter(ObjectSymbol::is_definition);
        defined.filter_map(|symbol| symbol.name().ok().map(str::to_owned)).collect()
    }

    /// The size of a section in bytes; 0 if there is none.
    #[must_use]
    pub fn section_size(&self, name: &str) -> u64 {
        self.elf().section_by_name(name).map_or(0, |section| section.size())
    }

    /// The addresses that are read-only once the program is loaded.
    #[must_use]
    pub fn relro(&self) -> Range<u64> {
        let elf = self.elf();
        let endian = elf.endian();
        let header =
            elf.elf_program_headers().iter().rfind(|header| header.p_type(endian) == elf::PT_GNU_RELRO);
        header.map_or(0..0, |header| header.p_vaddr(endian)..header.p_vaddr(endian) + header.p_memsz(endian))
    }

    /// The address that the word at `address` will hold.
    #[must_use]
    pub fn pointer(&self, address: u64) -> u64 {
        self.pointers.get(&address).copied().unwrap_or_else(|| self.word(address))
    }

    /// The word at `address`.
    #[must_use]
    pub fn word(&self, address: u64) -> u64 {
        u64::from_le_bytes(self.data(address, 8).try_into().expect("eight bytes"))
    }

    /// The text that a `&str` at `address` refers to.
    #[must_use]
    pub fn text(&self, address: u64) -> String {
        let data = self.data(self.pointer(address), self.word(address + 8));
        String::from_utf8(data.to_vec()).expect("a `&str`")
    }

    fn data(&self, address: u64, len: u64) -> &[u8] {
        let elf = self.elf();
        let section = elf.sections().find(|section| {
            section.address() <= address
                && address + len <= section.address() + section.size()
                && section.address() != 0
        });
        let range = section.and_then(|section| Some((section.address(), section.file_range()?.0)));
        let (start, offset) = range.unwrap_or_else(|| panic!("nothing of the file is at {address:#x}"));
        let at = usize::try_from(address - start + offset).expect("a place in the file");
        &self.bytes[at..][..usize::try_from(len).expect("a short piece")]
    }
}
