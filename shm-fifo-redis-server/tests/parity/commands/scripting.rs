//! Scripts and functions.

pub(super) const SCRIPTING: &[&str] = &[
    "EVAL <script> 1 <key> <value>",
    "EVAL <script> 1 <any> <text>",
    "EVAL <script> [0|-1|5|x] <any>",
    "EVAL_RO <script> 1 <key> <text>",
    "[EVALSHA|EVALSHA_RO] <digest> 1 <key>",
    "SCRIPT LOAD <script>",
    "SCRIPT EXISTS (<digest>)+",
    "SCRIPT FLUSH [SYNC|JUNK]",
    "SCRIPT KILL",
    "FUNCTION LOAD [REPLACE|] <function>",
    "FUNCTION LIST [WITHCODE|]",
    "FUNCTION DELETE [one|two]",
    "FUNCTION DUMP",
    "FUNCTION STATS",
    "FUNCTION KILL",
    "FCALL [get|echo] 1 <key>",
    "FCALL_RO [get|echo] 1 <key> <text> <text>",
];
