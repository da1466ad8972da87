#include "rpn.h"

#include <stdio.h>

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: rpn WORD...   for example: rpn 2 3 + 4 '*'\n");
        return 2;
    }
    double result;
    int word;
    enum rpn_status status = rpn_eval(argc - 1, argv + 1, &result, &word);
    if (status != RPN_OK) {
        fprintf(stderr, "rpn: word %d '%s': %s\n", word + 1, argv[word + 1], rpn_message(status));
        return 1;
    }
    printf("%g\n", result);
    return 0;
}
