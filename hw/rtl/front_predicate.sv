// Whether a predicate over the loops of `mask` switches its instruction on.
module front_predicate (
  input  logic [2:0] kind,
  input  logic [7:0] mask,
  input  logic [7:0] zero,      // the loop's counter is 0
  input  logic [7:0] last,      // the loop is in its last iteration
  input  logic in_grid,
  input  logic first_tile,      // of this core in this grid
  input  logic last_tile,
  input  logic [7:0] changed,   // the loop's counter differs from the tile before
  input  logic [7:0] changes,   // and from the tile after
  output logic on
);
  wire at_first = &(zero | ~mask);
  wire at_last = &(last | ~mask);
  wire is_changed = in_grid & (first_tile | (|(changed & mask)));
  wire will_change = in_grid & (last_tile | (|(changes & mask)));

  assign on = (kind == npu_isa_pkg::PRED_ALWAYS)
      | ((kind == npu_isa_pkg::PRED_FIRST) & at_first)
      | ((kind == npu_isa_pkg::PRED_NOT_FIRST) & ~at_first)
      | ((kind == npu_isa_pkg::PRED_LAST) & at_last)
      | ((kind == npu_isa_pkg::PRED_NOT_LAST) & ~at_last)
      | ((kind == npu_isa_pkg::PRED_CHANGED) & is_changed)
      | ((kind == npu_isa_pkg::PRED_CHANGES) & will_change);
endmodule : front_predicate
