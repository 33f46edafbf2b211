//! Attacks on tables: keys that collide, and traversals.

use crate::support::Expected::{Deadline, Ends, Stalls};
use crate::support::{attack, run, sized};

#[test]
fn tables() {
    run(&[
        // Lua hashes integers by their remainder, so that these are all in one chain. The last insertion rehashes.
        attack("integer keys that collide", Stalls, {
            let count = sized("(1 << 17) + 1", "(1 << 14) + 1");
            format!(
                "local M = (1 << 18) - 1 local t = {{}} for i = 1, {count} do t[i * M] = true end
            return 0"
            )
        }),
        attack("integer keys that collide, and are looked up", Stalls, {
            let count = sized("1 << 15", "1 << 12");
            format!(
                "local M = (1 << 16) - 1 local t = {{}} for i = 1, {count} do t[i * M] = true end
                 while true do for i = 1, {count} do local _ = t[-i * M] end end"
            )
        }),
        attack("float keys that collide", Stalls, {
            let count = sized("1 << 16", "1 << 13");
            format!(
                "local t = {{}}
                 for i = 1, {count} do t[(i * ((1 << 17) - 1)) / (1 << 31) + 0.0] = true end
                 while true do end"
            )
        }),
        attack(
            "long strings as keys",
            Deadline,
            "local t = {} local s = ('x'):rep(4e6 // 1 | 0)
            while true do t[s .. math.random(0)] = true t = {} end",
        ),
        attack(
            "many short strings",
            Ends,
            "local t = {} for i = 1, 1e9 do t[i .. 'x'] = true if i % 100000 == 0 then t = {} end end",
        ),
        attack(
            "next from the beginning",
            Deadline,
            "local t = {} for i = 1, 200000 do t['k' .. i] = i end
            while true do for k in pairs(t) do t[k] = nil local _ = next(t) end
            for i = 1, 1000 do t['k' .. i] = i end end",
        ),
        attack(
            "the border of a sparse table",
            Deadline,
            "local t = {} for i = 1, 20 do t[1 << i] = i end while true do local _ = #t end",
        ),
        attack(
            "a table that grows and shrinks",
            Deadline,
            "while true do local t = {} for i = 1, 100000 do t[i] = i end
            for i = 1, 100000 do t[i] = nil end t.x = 1 end",
        ),
        attack(
            "an array filled from its end",
            Deadline,
            "while true do local t = {} for i = 50000, 1, -1 do t[i] = i end end",
        ),
        attack(
            "moves of large ranges",
            Deadline,
            "local t = {} for i = 1, 300000 do t[i] = i end while true do table.move(t, 1, 300000, 2) end",
        ),
        attack("insertions at the front", Deadline, "local t = {} while true do table.insert(t, 1, 1) end"),
        attack(
            "concatenation of many",
            Deadline,
            "local t = {} for i = 1, 300000 do t[i] = 'xxxxxxxxxx' end while true do
             local _ = table.concat(t, ',') end",
        ),
        attack(
            "unpacking of many",
            Deadline,
            "local t = {} for i = 1, 200000 do t[i] = i end
            while true do pcall(function() return select('#', table.unpack(t, 1, 200000)) end) end",
        ),
    ]);
}
