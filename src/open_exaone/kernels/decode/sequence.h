// One sequence of a call, as Python lays it out (kernels/decoder.py, SEQUENCE): every field has 8 bytes.
#pragma once
#include "../native.h"

enum Status : i64 { RUNNING = 0, ENDED = 1, NOT_A_NUMBER = 2 };

struct Sequence {
    i64 position;               // of its first new token
    i64 num_ids;                // new tokens; one where it is to be continued
    const int32_t* ids;
    const int32_t* tables[2];   // its blocks of global and of local layers, by position / 16
    i64 num_steps;              // tokens to draw
    const float* uniforms;      // one a token
    double temperature, top_p, min_p;
    i64 top_k;                  // 0: all
    double presence_penalty, frequency_penalty, repetition_penalty;
    uint16_t* counts;           // [V] how often the reply has a token; null where no penalty asks
    const uint8_t* is_in_prompt;  // [V]; null without a repetition penalty
    const int32_t* bias_ids;
    const float* biases;
    i64 num_biases;
    const int32_t* end_ids;
    i64 num_end_ids;
    const int32_t* forced;      // the first tokens, where they are not the model's choice
    i64 num_forced;
    int32_t* drawn;             // results, one a step
    float *logprobs, *sampling_logprobs;
    i64 num_top;                // most likely tokens that are given a step, at most V; 0: none
    int32_t* top_ids;           // results, num_top a step, the most likely first
    float* top_logprobs;
    i64 num_drawn;
    i64 num_replaced;           // of the forced, those that the model would not have chosen
    i64 status;

    i64 last_position() const { return position + num_drawn; }
    int32_t last_id() const { return num_drawn ? drawn[num_drawn - 1] : ids[0]; }
    bool is_done() const { return status != RUNNING || num_drawn == num_steps; }
};
