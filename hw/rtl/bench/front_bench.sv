// Bench of the front stage: memories filled from files, units that take recorded times, everything that happens written to a file.
//
// For run N the files runN.words (the program), runN.settings and runN.durations, hex words of 64 bits with addresses, are read
// from the current folder when `load` is high at a clock edge, and runN.log is opened. Then `rst`, then `start`, each for a
// cycle or more. `over` rises when every active core has finished, one has a fault, or the limit of cycles is reached.
//
// Settings of core c from 256 * c on: active, entry, phases, scalar values; from 16 start and stop of each phase; from 128 the
// values that its scalar loads give, in order. From 256 * CORES on: words of the program, limit in cycles.
// Durations of unit u of core c begin at DURATIONS * (6 * c + u), in the order in which its instructions start.
//
// A line of the log is one of
//   D core cycle pc unit address0..3 size0..2 row col     dispatch; the cycle is the first one in the queue
//   S core unit pc start occupied_until done              start on a unit
//   L core cycle address                                  scalar load, the cycle after it
//   H core cycle                                          halted, drained
//   F core cycle fault pc                                 stopped by a fault
//   W core cycle                                          decoding wanted a word that was not there
//   O core unit                                           more instructions under way than the bench can follow
module front_bench #(
  parameter int CORES = 1,
  parameter int GROUP_CORES = 1,
  parameter int FETCH_WORDS = 1,
  parameter int FETCH_LATENCY = 1,
  parameter int PREFETCH_WORDS = 8,
  parameter int DECODE_CYCLES = 1,
  parameter int DISPATCH_CYCLES = 1,
  parameter int LOOP_CYCLES = 1,
  parameter int QUEUE_DEPTH = 4,
  parameter int SCALAR_CYCLES = 1,
  parameter int SCALAR_LOAD_CYCLES = 1,
  parameter int START_CYCLES = 0,
  parameter int BARRIER_CYCLES = 0,
  parameter int SET_TO_VISIBLE = 1,
  parameter int GROUP_CYCLES = 0,
  parameter int LAUNCH_CYCLES = 0,
  parameter int PROGRAM = 4096,
  parameter int DURATIONS = 16384
) (
  input  logic clk,
  input  logic [31:0] run,
  input  logic load,
  input  logic rst,
  input  logic start,
  output logic over
);
  import front_pkg::*;

  localparam int PACKET = DISPATCH_BITS;
  localparam int SIGNALS = SEMAPHORES * SIGNAL_BITS;
  localparam int OWN_BITS = OWN * SIGNAL_BITS;
  localparam int SETTINGS = 256;
  // `now` counts from the start; cycle 0 of the timing model is when the first words are there.
  localparam logic [31:0] ZERO = 1 + FETCH_LATENCY;

  logic [63:0] words [PROGRAM];
  logic [63:0] settings [SETTINGS*CORES+2];
  logic [63:0] durations [6*DURATIONS*CORES];
  logic [31:0] now;
  logic running;
  integer file;

  wire [31:0] program_words = settings[SETTINGS*CORES][31:0];
  wire [31:0] limit = settings[SETTINGS*CORES+1][31:0];
  wire [CORES-1:0] active, faulty, group_arrive, launch_arrive, group_go;
  wire launch_go;
  wire [4*CORES-1:0] fault;
  wire [32*CORES-1:0] pc;
  wire [36*CORES-1:0] take0, take1;
  wire [2*CORES-1:0] semaphore_set;
  wire [12*CORES-1:0] semaphore_number;
  wire [16*CORES-1:0] semaphore_count;
  wire [SHARED*CORES-1:0] shared_one, shared_two;
  wire [6*SHARED*SIGNAL_BITS*CORES-1:0] shared_signals;
  logic [CORES-1:0] halted;

  front_shared #(
    .CORES(CORES), .GROUP_CORES(GROUP_CORES), .BARRIER_CYCLES(BARRIER_CYCLES), .SET_TO_VISIBLE(SET_TO_VISIBLE),
    .GROUP_CYCLES(GROUP_CYCLES), .LAUNCH_CYCLES(LAUNCH_CYCLES)
  ) u_shared (
    .clk(clk), .rst(rst), .active(active), .signals(shared_signals), .take0(take0), .take1(take1),
    .semaphore_set(semaphore_set), .semaphore_number(semaphore_number), .semaphore_count(semaphore_count),
    .group_arrive(group_arrive), .launch_arrive(launch_arrive), .shared_one(shared_one), .shared_two(shared_two),
    .group_go(group_go), .launch_go(launch_go)
  );

  for (genvar c = 0; c < CORES; c++) begin : g_core
    localparam int BASE = SETTINGS * c;
    assign active[c] = settings[BASE][0];
    assign faulty[c] = fault[4*c+:4] != FAULT_NONE;

    wire phase_valid, scalar_taken, dispatched, finished, starved;
    wire [31:0] fetch_address, scalar_data;
    wire [64*FETCH_WORDS-1:0] fetch_data;
    wire [4:0] phase;
    wire [31:0] phase_at = {27'd0, phase};
    wire [63:0] scalar_address;
    wire [2:0] dispatched_unit;
    wire [PACKET-1:0] dispatch;
    wire [5:0] issue_valid;
    wire [6*PACKET-1:0] issue;

    /* verilator lint_off PINCONNECTEMPTY */
    front_stage #(
      .FETCH_WORDS(FETCH_WORDS), .FETCH_LATENCY(FETCH_LATENCY), .PREFETCH_WORDS(PREFETCH_WORDS),
      .DECODE_CYCLES(DECODE_CYCLES), .DISPATCH_CYCLES(DISPATCH_CYCLES), .LOOP_CYCLES(LOOP_CYCLES),
      .QUEUE_DEPTH(QUEUE_DEPTH), .SCALAR_CYCLES(SCALAR_CYCLES), .SCALAR_LOAD_CYCLES(SCALAR_LOAD_CYCLES),
      .START_CYCLES(START_CYCLES), .BARRIER_CYCLES(BARRIER_CYCLES), .SET_TO_VISIBLE(SET_TO_VISIBLE)
    ) u_stage (
      .clk(clk), .rst(rst), .start(start & active[c]), .entry(settings[BASE+1][31:0]), .program_words(program_words),
      .fetch_request(), .fetch_address(fetch_address), .fetch_data(fetch_data),
      .phase(phase), .phase_valid(phase_valid), .tile_start(settings[BASE+16+2*phase_at]),
      .tile_stop(settings[BASE+17+2*phase_at]),
      .scalar_request(), .scalar_taken(scalar_taken), .scalar_address(scalar_address),
      .scalar_data(scalar_data), .dispatched(dispatched), .dispatched_unit(dispatched_unit), .dispatch(dispatch),
      .issue_valid(issue_valid),
      .issue_ready({g_unit[5].ready, g_unit[4].ready, g_unit[3].ready, g_unit[2].ready, g_unit[1].ready, g_unit[0].ready}),
      .issue(issue),
      .completed({g_unit[5].idle, g_unit[4].idle, g_unit[3].idle, g_unit[2].idle, g_unit[1].idle, g_unit[0].idle}),
      .signals({g_unit[5].signals[OWN_BITS-1:0], g_unit[4].signals[OWN_BITS-1:0], g_unit[3].signals[OWN_BITS-1:0],
                g_unit[2].signals[OWN_BITS-1:0], g_unit[1].signals[OWN_BITS-1:0], g_unit[0].signals[OWN_BITS-1:0]}),
      .shared_one(shared_one[SHARED*c+:SHARED]), .shared_two(shared_two[SHARED*c+:SHARED]),
      .take0(take0[36*c+:36]), .take1(take1[36*c+:36]), .semaphore_set(semaphore_set[2*c+:2]),
      .semaphore_number(semaphore_number[12*c+:12]), .semaphore_count(semaphore_count[16*c+:16]),
      .group_arrive(group_arrive[c]), .launch_arrive(launch_arrive[c]), .group_go(group_go[c]), .launch_go(launch_go),
      .finished(finished), .starved(starved), .fault(fault[4*c+:4]), .pc(pc[32*c+:32])
    );
    /* verilator lint_on PINCONNECTEMPTY */

    // Instruction memory: the words of a request FETCH_LATENCY - 1 cycles later.
    wire [31:0] requested;
    if (FETCH_LATENCY == 1) begin : g_at_once
      assign requested = fetch_address;
    end else begin : g_later
      /* verilator lint_off UNUSEDSIGNAL */
      logic [32*FETCH_LATENCY-1:0] line;  // one more than needed, for the shift to have bits at every latency
      /* verilator lint_on UNUSEDSIGNAL */
      assign requested = line[32*(FETCH_LATENCY-2)+:32];
      always_ff @(posedge clk) line <= {line[32*(FETCH_LATENCY-1)-1:0], fetch_address};
    end
    for (genvar i = 0; i < FETCH_WORDS; i++) begin : g_word
      wire [31:0] at = requested + i;
      assign fetch_data[64*i+:64] = at < program_words ? words[at] : 64'd0;
    end

    assign phase_valid = phase_at < settings[BASE+2][31:0];

    logic [31:0] loads;
    assign scalar_data = loads < settings[BASE+3][31:0] ? settings[BASE+128+loads][31:0] : 32'd0;

    /* verilator lint_off UNUSEDSIGNAL */
    dispatch_t packet;
    /* verilator lint_on UNUSEDSIGNAL */
    assign packet = dispatch;

    always @(posedge clk) begin
      if (rst) begin
        loads <= 32'd0;
        halted[c] <= 1'b0;
      end else if (running) begin
        if (dispatched)
          $fdisplay(file, "D %0d %0d %0d %0d %h %h %h %h %h %h %h %h %h", c, now + 1 - ZERO, packet.pc,
                    dispatched_unit, packet.address[63:0], packet.address[127:64], packet.address[191:128],
                    packet.address[255:192], packet.size[31:0], packet.size[63:32], packet.size[95:64], packet.row,
                    packet.col);
        if (scalar_taken) begin
          $fdisplay(file, "L %0d %0d %h", c, now + 1 - ZERO, scalar_address);
          loads <= loads + 32'd1;
        end
        if (finished) begin
          $fdisplay(file, "H %0d %0d", c, now - ZERO);
          halted[c] <= 1'b1;
        end
        if (starved) $fdisplay(file, "W %0d %0d", c, now - ZERO);
      end
    end

    for (genvar u = 0; u < 6; u++) begin : g_unit
      localparam int FIRST = DURATIONS * (6 * c + u);
      logic [31:0] started;
      wire starts, overrun, ready, idle;
      wire [SIGNALS-1:0] signals;
      wire [31:0] occupied_until, done;
      /* verilator lint_off UNUSEDSIGNAL */
      dispatch_t head;
      /* verilator lint_on UNUSEDSIGNAL */
      assign head = issue[PACKET*u+:PACKET];
      assign shared_signals[SHARED*SIGNAL_BITS*(6*c+u)+:SHARED*SIGNAL_BITS] = signals[OWN_BITS+:SHARED*SIGNAL_BITS];

      front_unit u_unit (
        .clk(clk), .rst(rst), .now(now), .issue_valid(issue_valid[u]), .issue_ready(ready),
        .set0(head.set0), .set1(head.set1), .duration(durations[FIRST+started]), .starts(starts),
        .occupied_until(occupied_until), .done(done), .completed(idle), .overrun(overrun),
        .signals(signals)
      );

      always @(posedge clk) begin
        if (rst) begin
          started <= 32'd0;
        end else if (running & starts) begin
          $fdisplay(file, "S %0d %0d %0d %0d %0d %0d", c, u + 1, head.pc, now - ZERO, occupied_until - ZERO, done - ZERO);
          if (overrun) $fdisplay(file, "O %0d %0d", c, u + 1);
          started <= started + 32'd1;
        end
      end
    end
  end

  always @(posedge clk) begin
    if (load) begin
      // What runs past the durations given takes a cycle.
      /* verilator lint_off BLKSEQ */
      for (int i = 0; i < 6 * DURATIONS * CORES; i++) durations[i] = 64'd1;
      /* verilator lint_on BLKSEQ */
      $readmemh($sformatf("run%0d.words", run), words);
      $readmemh($sformatf("run%0d.settings", run), settings);
      $readmemh($sformatf("run%0d.durations", run), durations);
      file <= $fopen($sformatf("run%0d.log", run), "w");
    end
    if (rst) begin
      now <= 32'd0;
      running <= 1'b0;
      over <= 1'b0;
    end else begin
      if (start | running) now <= now + 32'd1;
      if (start) running <= 1'b1;
      if (running & (((halted & active) == active) | (|(faulty & active)) | (now >= limit))) begin
        running <= 1'b0;
        over <= 1'b1;
        for (int c = 0; c < CORES; c++)
          if (faulty[c]) $fdisplay(file, "F %0d %0d %0d %0d", c, now - ZERO, fault[4*c+:4], pc[32*c+:32]);
        $fclose(file);
      end
    end
  end
endmodule : front_bench
